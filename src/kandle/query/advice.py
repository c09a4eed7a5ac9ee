"""What to write in a query instead of Python that cannot be recorded."""

from __future__ import annotations

import dis
from types import FrameType, ModuleType

from kandle.model.entity import unknown

WAYS_OUT = (
    "write & for `and`, | for `or`, f.not_(x) for `not`, (a < b) & (b < c) for `a < b < c`, f.is_in(x, ys) for `x in ys`, "
    "f.case(...) or f.if_(...) for `if`, f.greatest and f.least for max() and min()"
)
NEW_TARGET = "a class that looks at its values when it is built is written f.new(Class, field=...)"
CONSTRUCTORS = ("__init__", "__post_init__", "__attrs_post_init__", "__new__")
METHODS = {
    "upper": "f.upper(x)",
    "lower": "f.lower(x)",
    "strip": "f.trim(x)",
    "replace": "f.replace(x, old, new)",
    "startswith": "f.starts_with(x, prefix)",
    "endswith": "f.ends_with(x, suffix)",
    "find": "f.index_of(x, part)",
    "ljust": "f.right_pad(x, length)",
    "rjust": "f.left_pad(x, length)",
    "zfill": 'f.left_pad(x, length, "0")',
    "quantize": "f.round(x, digits)",
    "date": "f.to_date(x)",
    "strftime": "f.format_timestamp(x, pattern)",
    "timestamp": "f.epoch_millis(x)",
    "weekday": "f.day_of_week(x)",
    "isoweekday": "f.day_of_week(x)",
    **{part: f"f.{part}(x)" for part in ("year", "month", "day", "hour", "minute", "second")},
}


def failure_advice(error: Exception, stage: str) -> str:
    """What helps with an error of the user's code, as the end of a message; nothing where it says enough itself."""
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        own = {name for name, value in vars(error.obj).items() if getattr(value, "__module__", None) == error.obj.__name__}
        return unknown("", error.name or "", [name for name in vars(error.obj) if name in own and name[0].islower()])
    names_an_argument = isinstance(error, TypeError) and "argument" in str(error)
    return f"; {NEW_TARGET}" if stage == "select" and not names_an_argument else ""


def truth_advice(frame: FrameType) -> str:
    """What to write in the place of the construct that asked for the truth of an expression."""
    if frame.f_code.co_name in CONSTRUCTORS:
        return NEW_TARGET
    instructions = list(dis.get_instructions(frame.f_code))
    at = next((i for i, each in enumerate(instructions) if each.offset == frame.f_lasti), None)
    name = instructions[at].opname if at is not None else ""
    before = [each.opname for each in instructions[max(0, (at or 0) - 2) : at]]
    if name == "UNARY_NOT":
        return "`not` cannot be recorded; write f.not_(x)"
    if name == "CONTAINS_OP":
        return "`in` cannot be recorded; write f.is_in(x, values)"
    if before == ["COPY", "COMPARE_OP"] and "JUMP" in name:
        return "a chained comparison cannot be recorded; write (a < b) & (b < c)"
    if name.startswith("JUMP_IF_FALSE_OR_POP"):
        return "`and` cannot be recorded; write (a) & (b)"
    if name.startswith("JUMP_IF_TRUE_OR_POP"):
        return "`or` cannot be recorded; write (a) | (b)"
    if name.startswith(("CALL", "PRECALL")):
        return "max(), min(), any() and the like cannot be recorded; write f.greatest(a, b), f.least(a, b)"
    return f"an expression has no truth value while its query is recorded; {WAYS_OUT}"


def attribute_advice(name: str) -> str:
    """What to write in the place of a method or another attribute of a value."""
    function = METHODS.get(name)
    way_out = f"write {function}" if function else "use the functions of kandle.functions"
    return f"its attribute .{name} cannot be recorded; {way_out}"
