"""What to write instead of Python code that cannot be recorded, worked out from that very code.

Python asks an expression for its truth, its text or its length, and the expression can only refuse: while a
query is recorded no value is known. What the user wrote (`and`, `if`, `in`, ...) is found in the bytecode of
the function that asked.
"""

from __future__ import annotations

import dis
from collections.abc import Callable
from types import FrameType, ModuleType, TracebackType

from kandle.errors import unknown_name
from kandle.model.types import (
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    FloatType,
    IntegerType,
    StringType,
    TimestampType,
    UuidType,
)
from kandle.query.nodes import AnyNode, Call, describe

CONSTRUCTORS = ("__init__", "__post_init__", "__attrs_post_init__", "__new__")

BUILTINS = {
    "max": "max() cannot be recorded; write f.greatest(a, b)",
    "min": "min() cannot be recorded; write f.least(a, b)",
    "any": "any() cannot be recorded; write a | b",
    "all": "all() cannot be recorded; write a & b",
    "bool": "bool() cannot be recorded; write the condition itself",
    "sorted": "sorted() cannot be recorded; write f.least(a, b) and f.greatest(a, b)",
}
"""Builtin functions that ask for the truth of an expression."""


def truth_advice(node: AnyNode, frame: FrameType) -> str:
    """Return what to write instead of the construct in a frame that asked for the truth of an expression.

    Args:
        node: The expression that was asked.
        frame: The frame that was running when it was asked.
    """
    if frame.f_code.co_name in CONSTRUCTORS:
        return constructor_advice(frame)
    operations, decision = _operations(frame)
    shown = describe(node)
    if decision == "UNARY_NOT":
        return f"`not` cannot be recorded; write f.not_({shown})"
    if decision == "CONTAINS_OP":
        value = node.arguments[0] if isinstance(node, Call) else node
        return f"`in` cannot be recorded; write f.is_in({describe(value)}, [...])"
    if operations[-3:] == ["SWAP", "COPY", "COMPARE_OP"] or operations[-4:-1] == ["SWAP", "COPY", "COMPARE_OP"]:
        return f"a chained comparison cannot be recorded; write ({shown}) & (...)"
    is_kept = operations[-1:] == ["COPY"] or decision.endswith("_OR_POP")
    if is_kept and "IF_FALSE" in decision:
        return f"`and` cannot be recorded; write ({shown}) & (...)"
    if is_kept and "IF_TRUE" in decision:
        return f"`or` cannot be recorded; write ({shown}) | (...)"
    if "CALL" in decision:
        return _builtin_advice(frame)
    return f"`if` cannot be recorded; write f.if_({shown}, value, otherwise), with & for `and` and | for `or`"


def _operations(frame: FrameType) -> tuple[list[str], str]:
    """Return the bytecode operations before the one that asked for a truth, and the one that uses it.

    The operations differ between versions of Python: of `a and b`, 3.11 has JUMP_IF_FALSE_OR_POP, 3.12 COPY
    and POP_JUMP_IF_FALSE, 3.13 COPY, TO_BOOL and POP_JUMP_IF_FALSE.
    """
    instructions = list(dis.get_instructions(frame.f_code))
    names = [instruction.opname for instruction in instructions]
    at = next((i for i, instruction in enumerate(instructions) if instruction.offset == frame.f_lasti), None)
    if at is None:
        return [], ""
    if names[at] == "COMPARE_OP":
        # From 3.13 on a comparison may ask by itself for the truth of its result.
        return names[: at + 1], names[at + 1]
    return names[:at], names[at + 1] if names[at] == "TO_BOOL" else names[at]


def _builtin_advice(frame: FrameType) -> str:
    loaded = [
        instruction.argval
        for instruction in dis.get_instructions(frame.f_code)
        if instruction.offset < frame.f_lasti and instruction.argval in BUILTINS
    ]
    return BUILTINS[loaded[-1]] if loaded else "its truth is not known while the query is recorded"


def constructor_advice(frame: FrameType) -> str:
    """Return how to describe an object whose constructor, running in this frame, looks at its values."""
    target = frame.f_locals.get("self")
    name = type(target).__name__ if target is not None else "Class"
    return f"{name} checks its values when it is built; write f.new({name}, field=...)"


def failure_advice(error: Exception) -> str:
    """Return what helps with an error of the user's code, to end a message; empty if the error says enough."""
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        return unknown_name("", error.name or "", _public_functions(error.obj))
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_name in CONSTRUCTORS:
            return f"; {constructor_advice(traceback.tb_frame)}"
        traceback = traceback.tb_next
    return ""


def _public_functions(module: ModuleType) -> list[str]:
    """Return the names that a module lists as public, or else the functions that it defines."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    return list(getattr(module, "__all__", [name for name in own if name[0].islower()]))


_TIME_PARTS = ("year", "month", "day", "hour", "minute", "second")

_ATTRIBUTES: dict[type[DataType], dict[str, str]] = {
    StringType: {
        "upper": "f.upper({})",
        "lower": "f.lower({})",
        "strip": "f.trim({})",
        "replace": "f.replace({}, old, new)",
        "startswith": "f.starts_with({}, prefix)",
        "endswith": "f.ends_with({}, suffix)",
        "find": "f.index_of({}, part) - 1",
        "index": "f.index_of({}, part) - 1",
        "ljust": "f.right_pad({}, length)",
        "rjust": "f.left_pad({}, length)",
        "zfill": 'f.left_pad({}, length, "0")',
    },
    DecimalType: {"quantize": "f.round({}, digits)"},
    TimestampType: {
        "date": "f.to_date({})",
        "strftime": "f.format_timestamp({}, pattern)",
        "timestamp": "f.epoch_millis({}) / 1000",
        "weekday": "f.day_of_week({}) - 1",
        "isoweekday": "f.day_of_week({})",
        **{part: f"f.{part}({{}})" for part in _TIME_PARTS},
    },
}
"""By type, what does the same as an attribute or method of Python's values."""


def attribute_advice(node: AnyNode, name: str) -> str:
    """Return what to write instead of an attribute or method of a value."""
    function = _ATTRIBUTES.get(type(node.type), {}).get(name)
    instead = f"write {function.format(describe(node))}" if function else "use a function of kandle.functions"
    return f"its attribute .{name} cannot be recorded; {instead}"


def _text_of(node: AnyNode) -> str | None:
    """Return the expression that converts a value to text, if there is one."""
    if isinstance(node.type, StringType):
        return describe(node)
    if isinstance(node.type, TimestampType):
        return f'f.format_timestamp({describe(node)}, "%Y-%m-%d")'
    castable = isinstance(node.type, IntegerType | FloatType | DecimalType | BooleanType)
    return f"f.cast({describe(node)}, str)" if castable else None


def _str(node: AnyNode) -> str:
    text = _text_of(node)
    return f"str() cannot be recorded; write {text}" if text else f"a {node.type} cannot be converted to text in a query"


def _format(node: AnyNode) -> str:
    text = _text_of(node)
    start = "f-strings and format() cannot be recorded"
    return f'{start}; write f.concat({text}, "...")' if text else start


def _int(node: AnyNode) -> str:
    if isinstance(node.type, FloatType | DecimalType):
        return f"int() cannot be recorded; write f.floor({describe(node)}) or f.round({describe(node)})"
    return f"int() cannot be recorded; write f.cast({describe(node)}, int)"


def _float(node: AnyNode) -> str:
    shown = describe(node)
    return f"float() and the functions of math cannot be recorded; write f.cast({shown}, float), or for math f.sqrt, f.ln, ..."


def _only_text(start: str, instead: str) -> Callable[[AnyNode], str]:
    """Return a piece of advice that has a way out for texts only."""

    def advice(node: AnyNode) -> str:
        is_text = isinstance(node.type, StringType)
        return f"{start} cannot be recorded{'; write ' + instead.format(describe(node)) if is_text else ''}"

    return advice


def _hash(node: AnyNode) -> str:
    hashable = isinstance(node.type, StringType | IntegerType | DateType | UuidType)
    way_out = f"; write f.is_in({describe(node)}, [...]) or f.case(...)" if hashable else "; write f.case(...)"
    return f"a value that is not known yet cannot be looked up in a set or dict{way_out}"


ADVICE: dict[str, Callable[[AnyNode], str]] = {
    "__str__": _str,
    "__format__": _format,
    "__int__": _int,
    "__float__": _float,
    "__len__": _only_text("len()", "f.length({})"),
    "__contains__": _only_text("`in`", "f.contains({}, part)"),
    "__getitem__": _only_text("indexing", "f.substring({}, start, length)"),
    "__iter__": lambda node: "a value that is not known yet cannot be iterated over",
    "__index__": lambda node: "a value that is not known yet cannot be an index or a count",
    "__hash__": _hash,
    "__invert__": lambda node: f"`~` cannot be recorded; write f.not_({describe(node)})",
}
"""For each special method that cannot be recorded, what to write instead."""
