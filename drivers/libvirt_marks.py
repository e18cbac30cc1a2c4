"""What the libvirt driver writes onto a domain: the fence, the keys of the latest steps, the step begun.

They are an element of the domain's metadata. What must outlive a domain (its keys, so that a destroyed VM
is not created again by a repetition, and the pod's epoch) is kept in a register: one inactive domain
per pod, called `cloudctl-register.…`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from xml.etree import ElementTree as ET

from msgspec import Struct
from msgspec.structs import replace

from drivers.contract import Epoch
from drivers.libvirt_binding import libvirt

__all__ = [
    "KEYS_REMEMBERED",
    "NAMESPACE",
    "Marks",
    "Register",
    "find_domain",
    "put_marks",
    "read_marks",
    "write_marks",
]

NAMESPACE = "urn:cloudctl:domain:1"
KEYS_REMEMBERED = 64
GONE_REMEMBERED = 256

T = TypeVar("T")

_ELEMENT = libvirt.VIR_DOMAIN_METADATA_ELEMENT
_CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG


class Marks(Struct, frozen=True, kw_only=True):
    """What is known of one resource at its hypervisor."""

    path: str = ""
    epoch: Epoch = ()
    keys: tuple[str, ...] = ()  # oldest first
    begun: str = ""  # key of the step under way, or cut off

    def begin(self, key: str, epoch: Epoch, path: str) -> Marks:
        """Note that the step `key` is about to change the domain."""
        return replace(self, path=path, epoch=max(self.epoch, epoch), begun=key)

    def end(self, key: str) -> Marks:
        """Note that the step `key` is applied."""
        kept = tuple(one for one in self.keys if one != key)
        return replace(self, keys=(*kept, key)[-KEYS_REMEMBERED:], begun="")


class Register:
    """The domain that remembers what is gone, for the pod `pod`; not shared between processes."""

    def __init__(self, connection: libvirt.virConnect, pod: str) -> None:
        self._connection = connection
        self._name = "cloudctl-register." + pod.replace("/", ".")
        self._domain = find_domain(connection, self._name)
        self._root = ET.fromstring("<register/>")
        if self._domain is not None:
            self._root = ET.fromstring(self._domain.metadata(_ELEMENT, NAMESPACE, _CONFIG))

    @property
    def epoch(self) -> Epoch:
        """The highest epoch of the pod."""
        return _epoch(self._root.get("epoch", ""))

    def raise_epoch(self, epoch: Epoch) -> None:
        """Remember the pod's epoch."""
        self._root.set("epoch", _dotted(epoch))
        self._write()

    def gone(self, name: str) -> Marks:
        """Return what was known of the domain `name` when it was destroyed."""
        found = self._find(name)
        return Marks() if found is None else _marks(found)

    def bury(self, name: str, marks: Marks) -> None:
        """Remember the marks of the domain `name`, which is about to go."""
        found = self._find(name)
        if found is not None:
            self._root.remove(found)
        entry = _element("gone", marks)
        entry.set("name", name)
        self._root.append(entry)
        for oldest in list(self._root)[:-GONE_REMEMBERED]:
            self._root.remove(oldest)
        self._write()

    def _find(self, name: str) -> ET.Element | None:
        return next((entry for entry in self._root if entry.get("name") == name), None)

    def _write(self) -> None:
        if self._domain is None:
            kind = self._connection.getType().lower()
            self._domain = self._connection.defineXML(
                f"<domain type='{kind}'><name>{self._name}</name><memory>1024</memory>"
                "<description>Remembers destroyed domains for cloudctl; never started</description>"
                "<os><type>hvm</type></os></domain>"
            )
        text = ET.tostring(self._root, "unicode")
        self._domain.setMetadata(_ELEMENT, text, "cloudctl", NAMESPACE, _CONFIG)


def find_domain(connection: libvirt.virConnect, name: str) -> libvirt.virDomain | None:
    """Look a domain up; None if it does not exist."""
    return _unless(lambda: connection.lookupByName(name), libvirt.VIR_ERR_NO_DOMAIN, None)


def read_marks(domain: libvirt.virDomain) -> Marks:
    """Read a domain's marks; empty ones if it has none."""
    return _unless(
        lambda: _marks(ET.fromstring(domain.metadata(_ELEMENT, NAMESPACE, _CONFIG))),
        libvirt.VIR_ERR_NO_DOMAIN_METADATA,
        Marks(),
    )


def write_marks(domain: libvirt.virDomain, marks: Marks) -> None:
    """Write a domain's marks."""
    text = ET.tostring(_element("marks", marks), "unicode")
    domain.setMetadata(_ELEMENT, text, "cloudctl", NAMESPACE, _CONFIG)


def put_marks(root: ET.Element, marks: Marks) -> None:
    """Put the marks into a domain's XML, so that defining it writes both at once."""
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ET.SubElement(root, "metadata")
    for old in metadata.findall(f"{{{NAMESPACE}}}marks"):
        metadata.remove(old)
    entry = _element("marks", marks)
    entry.tag = f"{{{NAMESPACE}}}marks"
    metadata.append(entry)


def _unless(look: Callable[[], T], code: int, otherwise: T) -> T:
    try:
        return look()
    except libvirt.libvirtError as error:
        if error.get_error_code() == code:
            return otherwise
        raise


def _element(tag: str, marks: Marks) -> ET.Element:
    entry = ET.Element(tag, path=marks.path, epoch=_dotted(marks.epoch), begun=marks.begun)
    entry.text = " ".join(marks.keys)
    return entry


def _marks(entry: ET.Element) -> Marks:
    return Marks(
        path=entry.get("path", ""),
        epoch=_epoch(entry.get("epoch", "")),
        keys=tuple((entry.text or "").split()),
        begun=entry.get("begun", ""),
    )


def _dotted(epoch: Epoch) -> str:
    return ".".join(map(str, epoch))


def _epoch(dotted: str) -> Epoch:
    return tuple(int(number) for number in dotted.split(".") if number)
