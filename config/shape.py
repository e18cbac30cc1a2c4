"""Everything that is wrong with the shape of a file: unknown keys, wrong types, values out of range.

Runs only when `msgspec.convert` has refused a file, because that stops at the first mistake. It walks the
same types, reports each mistake, and mends the data so that it converts and the later checks can run: a
misspelt key counts as the one it is nearest to, a bad value falls back to the default.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

from msgspec import inspect

from config.findings import Findings, Source, Where, did_you_mean
from config.locate import Path
from config.problems import Code
from config.quantities import Amount, Duration, DurationError, SizeError
from config.tables import Document

__all__ = ["BROKEN", "mend"]

# Stands in for a text that was refused: a valid name, so that it is not refused again.
BROKEN = "refused-by-the-checker"

_TYPE_NAMES = {
    dict: "a table",
    list: "an array",
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}
_DOCUMENT = inspect.type_info(Document)


def mend(source: Source, findings: Findings) -> None:
    """Report every mistake of shape in `source.data` and mend it in place, so that it converts."""
    _Mender(source, findings).mended(source.data, _DOCUMENT, ())


class _DropError(Exception):
    """The value was reported and cannot be mended: leave its key out. Stays in this module."""


class _Mender:
    def __init__(self, source: Source, findings: Findings) -> None:
        self._source = source
        self._findings = findings

    def mended(self, value: object, kind: inspect.Type, path: Path) -> object:
        """Check `value`, and answer what to use in its place.

        Raises:
            _DropError: nothing can be used.
        """
        match kind:
            case inspect.Metadata():
                return self.mended(value, kind.type, path)
            case inspect.StructType():
                return self._struct(self._table(value, path), kind, path)
            case inspect.DictType():
                return self._dict(self._table(value, path), kind.value_type, path)
            case inspect.ListType():
                return self._list(value, kind.item_type, path)
            case inspect.CustomType(cls=cls) if cls is not object:
                return self._quantity(value, kind.cls, path)
            case _:
                return self._scalar(value, kind, path)

    def _table(self, value: object, path: Path) -> dict[str, object]:
        if not isinstance(value, dict):
            raise self._wrong_type(value, "a table", path)
        return value

    def _struct(
        self, table: dict[str, object], kind: inspect.StructType, path: Path
    ) -> dict[str, object]:
        fields = {field.encode_name: field for field in kind.fields}
        for key in [key for key in table if key not in fields]:
            self._unknown(table, key, fields, path)
        for name, field in fields.items():
            if name in table:
                self._replace(table, name, field, path)
            elif field.required:
                if not self._source.damaged:
                    self._missing(name, path)
                table[name] = BROKEN
        return table

    def _unknown(
        self, table: dict[str, object], key: str, fields: dict[str, inspect.Field], path: Path
    ) -> None:
        """Report a key; when it is near to one that is not there, take it for that one."""
        near = _nearest(key, fields)
        hint = f"did you mean `{near}`?" if near else _hint_for(key, path, fields)
        where = Where(self._source, (*path, key))
        self._findings.add(Code.UNKNOWN_KEY, f"unknown key `{key}` {_inside(path)}", where, hint)
        value = table.pop(key)
        if near and near not in table:
            table[near] = value
            self._source.renames[(*path, near)] = key

    def _missing(self, name: str, path: Path) -> None:
        message = f"`{name}` is missing {_inside(path)}"
        example = 'class = "vm"' if name == "class" else f'{name} = "…"'
        self._findings.add(Code.MISSING, message, Where(self._source, path), f"add {example}")

    def _replace(
        self, table: dict[str, object], name: str, field: inspect.Field, path: Path
    ) -> None:
        try:
            table[name] = self.mended(table[name], field.type, (*path, name))
        except _DropError:
            if field.required or _is_text(field.type):
                table[name] = BROKEN
            else:
                del table[name]

    def _dict(self, table: dict[str, object], kind: inspect.Type, path: Path) -> dict[str, object]:
        for key in list(table):
            try:
                table[key] = self.mended(table[key], kind, (*path, key))
            except _DropError:
                del table[key]
        return table

    def _list(self, value: object, kind: inspect.Type, path: Path) -> list[object]:
        if not isinstance(value, list):
            raise self._wrong_type(value, "an array", path)
        kept = []
        for number, element in enumerate(value):
            try:
                kept.append(self.mended(element, kind, (*path, number)))
            except _DropError:
                kept.append(BROKEN)  # later elements keep their numbers
        return kept

    def _quantity(self, value: object, cls: type, path: Path) -> object:
        parse: Callable[[object], object] = Duration.parse if cls is Duration else Amount.parse
        try:
            parse(value)
        except DurationError as error:
            raise self._refused(Code.BAD_DURATION, str(error), path, error.hint) from None
        except SizeError as error:
            raise self._refused(Code.BAD_SIZE, str(error), path, error.hint) from None
        return value

    def _scalar(self, value: object, kind: inspect.Type, path: Path) -> object:
        match kind:
            case inspect.EnumType():
                choices = [member.value for member in kind.cls]
                if value not in choices:
                    raise self._not_a_choice(value, choices, path)
            case inspect.IntType() | inspect.FloatType():
                self._number(value, kind, path)
            case inspect.StrType():
                self._text(value, kind, path)
        return value

    def _not_a_choice(self, value: object, choices: list[str], path: Path) -> _DropError:
        if not isinstance(value, str):
            return self._wrong_type(value, "a text", path)
        listed = ", ".join(f'"{choice}"' for choice in choices)
        hint = did_you_mean(value, choices, '"') or f"choose from {listed}"
        return self._refused(Code.NOT_A_CHOICE, f'"{value}" is not one of {listed}', path, hint)

    def _number(self, value: object, kind: inspect.IntType | inspect.FloatType, path: Path) -> None:
        whole = isinstance(kind, inspect.IntType)
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise self._wrong_type(value, "a whole number" if whole else "a number", path)
        low = kind.ge if kind.ge is not None else kind.gt
        inside = (kind.ge is None or value >= kind.ge) and (kind.gt is None or value > kind.gt)
        if not inside or (kind.le is not None and value > kind.le):
            above = "above " if kind.gt is not None else ""
            hint = f"from {above}{low:,} to {kind.le:,}"
            raise self._refused(
                Code.OUT_OF_RANGE, f"`{path[-1]}` = {value} is out of range", path, hint
            )

    def _text(self, value: object, kind: inspect.StrType, path: Path) -> None:
        if not isinstance(value, str):
            raise self._wrong_type(value, "a text", path)
        if not value and (kind.pattern or kind.min_length):
            raise self._refused(Code.EMPTY_NAME, f"`{path[-1]}` is empty", path, "write a name")
        if kind.pattern and not re.match(kind.pattern, value):
            hint = "letters, digits, `-`, `_` and `.`; 63 at most, the first a letter or digit"
            raise self._refused(Code.BAD_NAME, f'"{value}" is no name', path, hint)

    def _wrong_type(self, value: object, wanted: str, path: Path) -> _DropError:
        is_a = next((name for cls, name in _TYPE_NAMES.items() if type(value) is cls), "a date")
        message = f"`{path[-1] if path else 'file'}` must be {wanted}, this is {is_a}"
        return self._refused(Code.WRONG_TYPE, message, path, _type_hint(value, wanted))

    def _refused(self, code: Code, message: str, path: Path, hint: str) -> _DropError:
        self._findings.add(code, message, Where(self._source, path, "value"), hint)
        return _DropError()


def _is_text(kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.Metadata):
        kind = kind.type
    return isinstance(kind, inspect.StrType)


def _inside(path: Path) -> str:
    """Say in the operator's words which table `path` is."""
    if not path:
        return "at the top of the file"
    names = "/".join(str(name) for name in path[1::2])
    if path[0] == "region" and len(path) % 2 == 0:
        return f"in {path[-2]} {names}"
    return f"in `{path[-1]}`"


def _nearest(key: str, fields: dict[str, inspect.Field]) -> str | None:
    """The key that was meant, if there is one near enough."""
    if key == "kind" and "class" in fields:
        return "class"
    near = difflib.get_close_matches(key, list(fields), n=1, cutoff=0.6)
    return near[0] if near else None


def _hint_for(key: str, path: Path, fields: dict[str, inspect.Field]) -> str:
    if key == "include":
        return "`include` stands at the top of the file, before the first [table]"
    if key in {"driver", "connect", "config"} and path:
        return "set it on the pod or on the resource"
    return "known here: " + ", ".join(f"`{name}`" for name in fields)


def _type_hint(value: object, wanted: str) -> str:
    if isinstance(value, str) and wanted.endswith("number"):
        try:
            float(value)
        except ValueError:
            return ""
        return f"without quotes: {value}"
    if isinstance(value, int | float) and wanted == "a text":
        return f'in quotes: "{value}"'
    if isinstance(value, str) and wanted == "an array":
        return f'in brackets: ["{value}"]'
    return ""
