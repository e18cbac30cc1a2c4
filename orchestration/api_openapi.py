"""The OpenAPI 3.1 document, made from the typed routes and the records they name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from orchestration.api_routes import PROBLEM_JSON, TypedRoute
from orchestration.api_units import NDJSON
from orchestration.records import Problem, UnitSpec

__all__ = ["document"]

JsonObject = dict[str, Any]
REF = "#/components/schemas/{name}"


def document(routes: Sequence[TypedRoute[Any, Any]], version: str) -> JsonObject:
    """Describe `routes`; every shape they take or give is a component."""
    shapes = _shapes(routes)
    schemas, components = _schemas(list(shapes.values()))
    by_name = dict(zip(shapes, schemas, strict=True))
    paths: dict[str, JsonObject] = {}
    for route in routes:
        address = re.sub(r":path\}", "}", route.path)
        paths.setdefault(address, {})[route.method.lower()] = _operation(route, by_name)
    return {
        "openapi": "3.1.0",
        "info": {"title": "cloudctl", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }


def _shapes(routes: Sequence[TypedRoute[Any, Any]]) -> dict[str, object]:
    """Name every shape by its repr, so that one is described once."""
    found: dict[str, object] = {repr(Problem): Problem, repr(UnitSpec): UnitSpec}
    for route in routes:
        for shape in (route.query, route.body, route.answer):
            if shape is not None:
                found[repr(shape)] = shape
    return found


def _operation(route: TypedRoute[Any, Any], schemas: dict[str, JsonObject]) -> JsonObject:
    operation: JsonObject = {
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": _responses(route, schemas),
    }
    if route.body is not None:
        content = {"application/json": {"schema": schemas[repr(route.body)]}}
        if route.body == list[UnitSpec]:
            content[NDJSON] = {"schema": schemas[repr(UnitSpec)]}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(route: TypedRoute[Any, Any]) -> list[JsonObject]:
    in_path: list[JsonObject] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)", route.path)
    ]
    return in_path + [_query_parameter(field) for field in msgspec.structs.fields(route.query)]


def _query_parameter(field: msgspec.structs.FieldInfo) -> JsonObject:
    schemas, _ = _schemas([field.type])
    return {"name": field.name, "in": "query", "required": False, "schema": schemas[0]}


def _responses(route: TypedRoute[Any, Any], schemas: dict[str, JsonObject]) -> JsonObject:
    content: JsonObject = {route.media_type: {}}
    if route.answer is not None:
        content = {route.media_type: {"schema": schemas[repr(route.answer)]}}
    responses: JsonObject = {str(route.status): {"description": route.summary, "content": content}}
    for status in sorted({kind.status for kind in route.problems}):
        titles = "; ".join(
            f"{kind.code} {kind.title}" for kind in route.problems if kind.status == status
        )
        responses[str(status)] = {
            "description": titles,
            "content": {PROBLEM_JSON: {"schema": schemas[repr(Problem)]}},
        }
    return responses


def _schemas(shapes: list[object]) -> tuple[tuple[JsonObject, ...], JsonObject]:
    return msgspec.json.schema_components(shapes, ref_template=REF, schema_hook=_anything)


def _anything(shape: type) -> JsonObject:
    """Describe `object`, which is any JSON value."""
    if shape is not object:
        raise NotImplementedError(shape)
    return {"description": "any JSON value"}  # msgspec takes an empty schema for none
