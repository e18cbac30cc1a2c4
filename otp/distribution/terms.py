"""Terms: what may cross from one node to another, and how it is written.

Plain values cross as they are (`None`, `bool`, `int` of any size, `float`, `str`, `bytes`, and `tuple`, `list`, `dict`,
`set`, `frozenset` of them), and so do pids and exit reasons. A `msgspec.Struct`, dataclass or `Enum` crosses when both
nodes have registered it under the same name with the same fields. Nothing is pickled, and nothing is guessed: any
other value is refused where it is sent, by the name of its type.

In an exit reason, which must arrive in any case, what cannot cross is replaced by an `Opaque` that says what it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Any, Final, Protocol

import msgspec
from msgspec.msgpack import Ext

from otp.distribution.frames import MAX_FRAME_BYTES, LinkError
from otp.errors import OtpError
from otp.exit_reason import Raised
from otp.node_names import OnNode
from otp.process import Exit, Pid
from otp.reports import bounded_text
from otp.sys_process import FailedCallback

__all__ = [
    "Book",
    "Opaque",
    "Packer",
    "RemoteError",
    "Terms",
    "UncrossableError",
    "join",
    "split",
]

# Codes of msgpack extensions. The first ones stand at the head of an array and say what its rest is.
LIST: Final = 1
DICT: Final = 2
SET: Final = 3
FROZENSET: Final = 4
RECORD: Final = 5  # the data is the type's name
RAISED: Final = 6
OPAQUE: Final = 7
LAST_HEAD: Final = 7
PID: Final = 20
BIG_INT: Final = 21

_PLAIN: Final = frozenset({NoneType, bool, float, str, bytes})
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**64 - 1
_HEADS: Final[dict[type, int]] = {list: LIST, set: SET, frozenset: FROZENSET}
_COLLECTIONS: Final[dict[int, Callable[[Iterable[Any]], object]]] = {
    LIST: list,
    SET: set,
    FROZENSET: frozenset,
}
# A link carries batches of messages: some room for what is around one.
_MAX_BYTES: Final = MAX_FRAME_BYTES - 64

_encode = msgspec.msgpack.Encoder().encode
_decode_batch = msgspec.msgpack.Decoder(list[list[Any]]).decode
_decode_pid = msgspec.msgpack.Decoder(tuple[str, str, int]).decode


class UncrossableError(OtpError, TypeError):
    """A message was refused because something in it cannot cross to another node. Raised in the sender."""


class RemoteError(OtpError):
    """Stands for an exception that ended a process on another node; `type_name` is its class there."""

    def __init__(self, type_name: str, text: str) -> None:
        super().__init__(f"{type_name}: {text}")
        self.type_name = type_name
        self.text = text


@dataclass(frozen=True, slots=True)
class Opaque:
    """A part of an exit reason that could not cross."""

    type_name: str
    text: str


class Book(Protocol):
    """Who knows the pids of all nodes."""

    def address(self, pid: Pid) -> tuple[str, str, int] | None:
        """Give (node, incarnation, serial) of a pid; None if it cannot be told to others."""

    def resolve(self, node: str, incarnation: str, serial: int) -> Pid:
        """Give the pid at that address, which may be dead."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """A registered type."""

    name: str
    kind: type[Any]
    fields: tuple[str, ...]  # none: an Enum, which has a value instead

    @property
    def signature(self) -> str:
        return f"{self.name}({','.join(self.fields)})"

    def parts(self, term: Any) -> list[Any]:
        """Take a term apart."""
        return [getattr(term, field) for field in self.fields] if self.fields else _content(term)

    def build(self, parts: Sequence[Any]) -> object:
        """Put it together."""
        if issubclass(self.kind, Enum):
            return self.kind(*parts)
        return self.kind(**dict(zip(self.fields, parts, strict=True)))


class Terms:
    """The types one node has registered, and the reading of what comes from others."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.shapes: dict[type, _Shape] = {}
        self._named: dict[str, _Shape] = {}
        self.register((Exit, FailedCallback, OnNode, Opaque))

    def register(self, types: Iterable[type]) -> None:
        """Let instances of these types cross, to nodes that have registered them as well.

        Raises:
            UncrossableError: no Struct, dataclass or Enum; one that is not rebuilt from its fields; a name taken.
        """
        for kind in types:
            shape = _Shape(_type_name(kind), kind, _fields(kind))
            if self._named.setdefault(shape.name, shape).kind is not kind:
                raise UncrossableError(f"another type is registered as {shape.name}")
            self.shapes[kind] = shape

    def signatures(self) -> list[str]:
        """Name the registered types with their fields."""
        return [shape.signature for shape in self._named.values()]

    def read(self, wire: Any) -> Any:
        """Read a term.

        Raises:
            LinkError: no node of ours writes that.
        """
        try:
            return self._read(wire)
        except LinkError:
            raise
        except Exception as error:
            raise LinkError(f"unreadable term: {error!r:.300}") from error

    def _read(self, wire: Any) -> Any:
        kind = type(wire)
        if kind is list:
            if wire and type(wire[0]) is Ext and wire[0].code <= LAST_HEAD:
                return self._read_headed(wire[0], [self._read(part) for part in wire[1:]])
            return tuple([self._read(part) for part in wire])
        if kind is Ext:
            if wire.code == BIG_INT:
                return int(wire.data)
            return self.book.resolve(*_decode_pid(wire.data))
        if kind is dict:
            return {key: self._read(value) for key, value in wire.items()}
        return wire

    def _read_headed(self, head: Ext, parts: list[Any]) -> object:
        code = head.code
        if code == RECORD:
            return self._named[bytes(head.data).decode()].build(parts)
        if code in _COLLECTIONS:
            return _COLLECTIONS[code](parts)
        if code == DICT:
            return dict(zip(parts[::2], parts[1::2], strict=True))
        if code == RAISED:
            type_name, text, stack = parts
            return Raised(RemoteError(type_name, text), stack)
        if code == OPAQUE:
            return Opaque(*parts)
        raise LinkError(f"term code {code} is unknown")


class Packer:
    """Writes terms for one peer, which has registered `known`.

    Args:
        terms: the types of this node.
        known: the signatures of the peer.
        lenient: replace what cannot cross by an `Opaque`, and raise nothing.
    """

    __slots__ = ("_known", "_lenient", "_terms")

    def __init__(self, terms: Terms, known: frozenset[str], *, lenient: bool) -> None:
        self._terms = terms
        self._known = known
        self._lenient = lenient

    def pack(self, *head: object, term: object) -> bytes:
        """Write a message: plain values, then `term`.

        Raises:
            UncrossableError: something in `term` cannot cross.
        """
        try:
            packed = _encode([*head, self._wire(term)])
        except (ValueError, OverflowError, RecursionError) as error:
            fault = f"{_type_name(type(term))} cannot cross: {error}"
        else:
            if len(packed) <= _MAX_BYTES:
                return packed
            fault = f"a message of {len(packed)} bytes exceeds {_MAX_BYTES}"
        if self._lenient:
            return _encode([*head, _opaque(term)])
        raise UncrossableError(fault)

    def _wire(self, term: Any) -> Any:
        kind = type(term)
        if kind in _PLAIN:
            return term
        if kind is int:
            small = _INT_MIN <= term <= _INT_MAX
            return term if small else Ext(BIG_INT, str(term).encode())
        if kind is tuple:
            return [self._wire(part) for part in term]
        if kind in _HEADS:
            return [Ext(_HEADS[kind], b""), *map(self._wire, term)]
        if kind is dict:
            return self._wire_dict(term)
        return self._wire_object(kind, term)

    def _wire_dict(self, term: dict[Any, Any]) -> Any:
        if all(type(key) is str for key in term):
            return {key: self._wire(value) for key, value in term.items()}
        parts = [self._wire(part) for pair in term.items() for part in pair]
        return [Ext(DICT, b""), *parts]

    def _wire_object(self, kind: type, term: Any) -> Any:
        shape = self._terms.shapes.get(kind)
        if shape is not None and shape.signature in self._known:
            return [Ext(RECORD, shape.name.encode()), *map(self._wire, shape.parts(term))]
        if isinstance(term, Pid):
            address = self._terms.book.address(term)
            if address is not None:
                return Ext(PID, _encode(address))
        elif kind is Raised:
            error = term.error
            named = (error.type_name, error.text) if type(error) is RemoteError else _named(error)
            return [Ext(RAISED, b""), *named, [list(frame) for frame in term.stack]]
        if self._lenient:
            return _opaque(term)
        where = "here" if shape is None else "at the peer with the same fields"
        raise UncrossableError(f"{_type_name(kind)} cannot cross: it is not registered {where}")


def join(messages: list[Any]) -> bytes:
    """Make one batch of packed messages: `encode` for a link."""
    return b"\xdd" + len(messages).to_bytes(4, "big") + b"".join(messages)


def split(body: bytes) -> list[list[Any]]:
    """Take a batch apart: `decode` for a link."""
    return _decode_batch(body)


def _opaque(term: object) -> list[object]:
    text = bounded_text(term).encode(errors="replace").decode()
    return [Ext(OPAQUE, b""), _type_name(type(term)), text]


def _named(error: BaseException) -> tuple[str, str]:
    return type(error).__name__, bounded_text(error)


def _content(term: Enum) -> list[Any]:
    return [term.value]


def _type_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _fields(kind: type) -> tuple[str, ...]:
    if issubclass(kind, Enum):
        return ()
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    if dataclasses.is_dataclass(kind):
        fields = dataclasses.fields(kind)
        if all(field.init for field in fields):
            return tuple(field.name for field in fields)
    raise UncrossableError(
        f"{_type_name(kind)} cannot be registered: it is no Struct, dataclass or Enum made from its fields"
    )
