"""`${NAME}` and `${NAME:-default}` in the string values of the file; `$${` writes a plain `${`.

The value is text, never TOML: a variable cannot add keys. An empty variable counts as unset where there
is a default, as in the shell.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from config.findings import Findings, Source, Where
from config.locate import Path
from config.problems import Code
from config.shape import BROKEN

__all__ = ["substitute"]

_USE = re.compile(r"\$(\$\{)|\$\{([^}]*)(\}?)")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


def substitute(source: Source, environment: Mapping[str, str], findings: Findings) -> None:
    """Replace the variables in every string value of `source.data`, in place."""
    if "$" in source.text:
        _Substitution(source, environment, findings).table(source.data, ())


class _Substitution:
    def __init__(self, source: Source, environment: Mapping[str, str], findings: Findings) -> None:
        self._source = source
        self._environment = environment
        self._findings = findings

    def table(self, table: dict[str, object], path: Path) -> None:
        for key, value in table.items():
            table[key] = self._value(value, (*path, key))

    def _value(self, value: object, path: Path) -> object:
        if isinstance(value, str):
            return self._text(value, path) if "${" in value else value
        if isinstance(value, dict):
            self.table(value, path)
        elif isinstance(value, list):
            value[:] = [self._value(element, (*path, i)) for i, element in enumerate(value)]
        return value

    def _text(self, text: str, path: Path) -> str:
        """Replace the variables of one text; BROKEN where that fails, so that nothing follows from it."""
        values = [self._use(found, path) for found in _USE.finditer(text)]
        if None in values:
            return BROKEN
        replaced = iter(values)
        return _USE.sub(lambda _: next(replaced) or "", text)

    def _use(self, found: re.Match[str], path: Path) -> str | None:
        if found.group(1):
            return "${"
        variable = _VARIABLE.fullmatch(found.group(2)) if found.group(3) else None
        if variable is None:
            self._complain(
                path,
                f"`{found.group()}` is no variable",
                "write ${NAME} or ${NAME:-default}; $${ for the two characters themselves",
            )
            return None
        name, default = variable.groups()
        value = self._environment.get(name)
        if value or (value is not None and default is None):
            return value
        if default is None:
            near = difflib.get_close_matches(name, list(self._environment), n=1, cutoff=0.8)
            hint = f"did you mean ${{{near[0]}}}? else " if near else ""
            hint += f"export {name}, or give a default: ${{{name}:-…}}"
            self._complain(path, f"the environment variable {name} is not set", hint)
            return None
        return default

    def _complain(self, path: Path, message: str, hint: str) -> None:
        self._findings.add(Code.ENVIRONMENT, message, Where(self._source, path, "value"), hint)
