"""The JSON Schema of the operator's file, for editors (`#:schema ./infra.schema.json`)."""

from __future__ import annotations

import msgspec

from config.quantities import DURATION_PATTERN, SIZE_PATTERN, Amount, Duration
from config.tables import Document

__all__ = ["schema"]


def schema() -> dict[str, object]:
    """Make the schema from the types that files are checked with."""
    (reference,), definitions = msgspec.json.schema_components(
        [Document], schema_hook=_quantity_schema, ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cloudctl infrastructure",
        **reference,
        "$defs": dict(sorted(definitions.items())),
    }


def _quantity_schema(kind: type) -> dict[str, object]:
    if issubclass(kind, Duration):
        examples = ["200ms", "60s", "5m", "1h30m"]
        return {"type": "string", "pattern": DURATION_PATTERN, "examples": examples}
    if issubclass(kind, Amount):
        size = {"type": "string", "pattern": SIZE_PATTERN, "examples": ["256GiB", "10GB"]}
        return {"anyOf": [{"type": "number", "minimum": 0}, size]}
    if kind is object:
        return {"description": "Anything but a date; the driver checks it."}
    raise NotImplementedError(kind)
