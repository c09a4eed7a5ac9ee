"""Arrays, maps and structs: building them and taking them apart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from tests.ksqldb.simulator.code import RULES, Code, Row, Scope, code_of, present, value_or_null
from tests.ksqldb.simulator.errors import RefusedError
from tests.ksqldb.simulator.nodes import ArrayOf, Field, Index, MapOf, StructOf
from tests.ksqldb.simulator.types import INTEGER, VARCHAR, Type, array, map_of, struct, wider
from tests.ksqldb.simulator.values import cast


def index(node: Index, scope: Scope) -> Code:
    """An element: counted from 1, or from the end with a minus; a map's value by its key."""
    base, position = code_of(node.base, scope), code_of(node.index, scope)
    if base.known.name == "MAP" and position.type == VARCHAR:
        return Code(base.known.items[1], lambda row: _value_of(base.run(row), position, row))
    if base.known.name != "ARRAY" or position.type != INTEGER:
        raise RefusedError(f"Subscript of {base.type} with {position.type} is not supported")
    return Code(base.known.items[0], lambda row: _element(base.run(row), position, row))


def _element(items: list[Any] | None, position: Code, row: Row) -> Any:
    if items is None:
        return None
    number = present(position.run(row))
    from_0 = number - 1 if number > 0 else len(items) + number if number < 0 else -1
    return items[from_0] if 0 <= from_0 < len(items) else None


def _value_of(entries: dict[str, Any] | None, key: Code, row: Row) -> Any:
    return None if entries is None else entries.get(key.run(row))


def field(node: Field, scope: Scope) -> Code:
    base = code_of(node.base, scope)
    if base.known.name != "STRUCT" or node.name not in base.known.fields:
        raise RefusedError(f"Could not find field '{node.name}' in {base.type}")
    kind = base.known.items[base.known.fields.index(node.name)]
    return Code(kind, lambda row: (base.run(row) or {}).get(node.name))


def common(codes: Sequence[Code]) -> Type:
    """The type of a list's elements: the widest of the numbers, or one for all."""
    kinds = [code.type for code in codes if code.type is not None]
    if not kinds:
        raise RefusedError(
            "Array or map constructor cannot be empty and needs one element with a type. Please supply at least one"
        )
    return reduce(wider, kinds)


def _item(code: Code, kind: Type, row: Row) -> Any:
    return cast(value_or_null(code, row), code.type, kind)


def array_of(node: ArrayOf, scope: Scope) -> Code:
    items = [code_of(item, scope) for item in node.items]
    kind = common(items)
    return Code(array(kind), lambda row: [_item(item, kind, row) for item in items])


def map_code(node: MapOf, scope: Scope) -> Code:
    keys, values = ([code_of(entry[side], scope) for entry in node.entries] for side in (0, 1))
    key, value = common(keys), common(values)
    if key != VARCHAR:
        raise RefusedError(f"Only maps with VARCHAR keys are supported, not {key}")
    entries = list(zip(keys, values, strict=True))
    return Code(map_of(key, value), lambda row: {_item(name, key, row): _item(item, value, row) for name, item in entries})


def struct_of(node: StructOf, scope: Scope) -> Code:
    fields = {name: code_of(value, scope) for name, value in node.fields}
    if len(fields) < len(node.fields):
        raise RefusedError("Duplicate field names found in STRUCT")
    kind = struct({name: code.known for name, code in fields.items()})
    return Code(kind, lambda row: {name: value_or_null(code, row) for name, code in fields.items()})


RULES |= {Index: index, Field: field, ArrayOf: array_of, MapOf: map_code, StructOf: struct_of}
