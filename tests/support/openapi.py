"""The Engine API's description as a judge: which operations there are, and whether an answer has the shape it promises.

The description is not part of the project: SCOW_REFERENCE names a folder that holds ``engine-api-v1.55.yaml``.
"""

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

NAME = "engine-api-v1.55.yaml"
KINDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
}
#: Scalars that are null on Docker's own wire although the description does not say so.
POINTERS = frozenset({"$.ExitCode", "$.HostConfig.MemorySwappiness"})


class Description:
    """One OpenAPI (Swagger 2.0) document."""

    def __init__(self, path: Path) -> None:
        with path.open() as file:
            self.document: dict[str, Any] = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    @cached_property
    def operations(self) -> dict[tuple[str, str], dict[str, Any]]:
        """(method, path template) → operation."""
        return {
            (method.upper(), path): operation
            for path, item in self.document["paths"].items()
            for method, operation in item.items()
            if method in ("get", "head", "post", "put", "delete")
        }

    def response(self, method: str, path: str, status: int = 200) -> dict[str, Any]:
        """The schema of an answer; `{}` when the description gives none."""
        responses = self.operations[method, path]["responses"]
        answer = responses.get(status) or responses[str(status)]
        return dict(answer.get("schema", {}))

    def faults(self, value: Any, schema: dict[str, Any], where: str = "$") -> Iterator[str]:
        """Where `value` is not what `schema` says, a sentence each."""
        if "$ref" in schema:
            schema = self.document["definitions"][schema["$ref"].rpartition("/")[2]]
        for part in schema.get("allOf", ()):
            yield from self.faults(value, part, where)
        if value is None:
            # Go's nil slices and maps are null on Docker's own wire; only a required scalar may not be.
            scalar = schema.get("type") in ("string", "integer", "number", "boolean")
            if scalar and not schema.get("x-nullable") and where not in POINTERS:
                yield f"{where} is null"
            return
        kind = schema.get("type")
        if kind and (not isinstance(value, KINDS[kind]) or (kind == "integer" and isinstance(value, bool))):
            yield f"{where} is {type(value).__name__}, expected {kind}"
            return
        if "enum" in schema and value not in schema["enum"] and value != "":
            yield f"{where} is {value!r}, expected one of {schema['enum']}"
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from self.faults(item, schema.get("items", {}), f"{where}[{index}]")
        if isinstance(value, dict):
            yield from self._members(value, schema, where)

    def _members(self, value: dict[str, Any], schema: dict[str, Any], where: str) -> Iterator[str]:
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{where}.{name} is missing"
        more = schema.get("additionalProperties")
        for name, item in value.items():
            if name in schema.get("properties", {}):
                yield from self.faults(item, schema["properties"][name], f"{where}.{name}")
            elif isinstance(more, dict):
                yield from self.faults(item, more, f"{where}.{name}")


def description() -> Description:
    """The description, or a visible skip where SCOW_REFERENCE does not name its folder."""
    folder = os.environ.get("SCOW_REFERENCE", "")
    path = Path(folder) / NAME
    if not folder or not path.exists():
        pytest.skip(f"SCOW_REFERENCE does not name a folder with {NAME}")
    return Description(path)
