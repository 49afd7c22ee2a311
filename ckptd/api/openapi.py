"""The OpenAPI 3.1 document, made from the table of routes and the pydantic schemas; nothing in it is written twice."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

import ckptd
from ckptd.api.routes import ROUTES, Route
from ckptd.api.schemas import ErrorBody
from ckptd.domain.errors import CkptdError, NotAllowed, UsageError

Json = dict[str, Any]
_REFERENCE = "#/components/schemas/{model}"


def document() -> Json:
    schemas = _Schemas()
    paths: Json = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    paths["/v1/openapi.json"] = {"get": _own_operation()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ckptd",
            "version": ckptd.__version__,
            "summary": "The node's checkpoint daemon, over its Unix socket",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas.definitions},
    }


class _Schemas:
    """Collects the models that are referred to."""

    def __init__(self) -> None:
        self.definitions: Json = {}

    def of(self, kind: Any, mode: JsonSchemaMode) -> Json:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        schema = adapter.json_schema(ref_template=_REFERENCE, mode=mode, schema_generator=GenerateJsonSchema)
        self.definitions.update(schema.pop("$defs", {}))
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            self.definitions[kind.__name__] = schema
            return {"$ref": _REFERENCE.format(model=kind.__name__)}
        return schema


def _operation(route: Route, schemas: _Schemas) -> Json:
    parameters = _parameters(route.parameters, "path") + _parameters(route.query, "query")
    described: Json = {
        "operationId": route.name,
        "summary": route.summary,
        "x-caller": route.caller.value,
        "responses": _responses(route, schemas),
    }
    if parameters:
        described["parameters"] = parameters
    if route.body is not None:
        content = {"application/json": {"schema": schemas.of(route.body, "validation")}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _parameters(model: type[BaseModel], where: str) -> list[Json]:
    properties = model.model_json_schema(mode="validation").get("properties", {})
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    return [
        {"name": name, "in": where, "required": where == "path" or name in required, "schema": _without_null(schema)}
        for name, schema in properties.items()
    ]


def _without_null(schema: Json) -> Json:
    """A parameter is left out or it is text; there is no null in a URL."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) != 1:
        return schema
    kept = {key: value for key, value in schema.items() if key != "anyOf" and not (key == "default" and value is None)}
    return {**kept, **options[0]}


def _responses(route: Route, schemas: _Schemas) -> Json:
    content: Json = {}
    if route.response is bytes:
        content["text/plain"] = {"schema": {"type": "string"}}
    elif route.response is not None:
        content["application/json"] = {"schema": schemas.of(route.response, "serialization")}
    if route.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    success: Json = {"description": "Done" if route.status != 202 else "Begun"}
    if content:
        success["content"] = content
    failures: dict[str, Json] = {"422": _failure("UsageError: the request does not validate", schemas)}
    always: tuple[type[CkptdError], ...] = (UsageError, NotAllowed)
    for error in always + route.raises:
        failures.setdefault(str(error.http_status), _failure(_meaning(error), schemas))
    failures["default"] = _failure("Any other failure", schemas)
    return {str(route.status): success} | failures


def _failure(description: str, schemas: _Schemas) -> Json:
    return {
        "description": description,
        "content": {"application/json": {"schema": schemas.of(ErrorBody, "serialization")}},
    }


def _meaning(error: type[CkptdError]) -> str:
    return f"{error.__name__}: the CLI's exit code {error.exit_code}"


def _own_operation() -> Json:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "operationId": "openapi",
        "summary": "This document",
        "x-caller": "anyone",
        "responses": {"200": {"description": "Done", "content": content}},
    }
