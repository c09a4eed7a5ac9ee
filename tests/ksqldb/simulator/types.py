"""The types of KSQL and what the server says about mixing them."""

from __future__ import annotations

from dataclasses import dataclass

from tests.ksqldb.simulator.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Type:
    """A type: `items` are element, key and value, or the fields; precision 0 in a signature is any."""

    name: str
    precision: int = 0
    scale: int = 0
    items: tuple[Type, ...] = ()
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.name == "DECIMAL" and self.precision:
            return f"DECIMAL({self.precision},{self.scale})"
        if self.name == "STRUCT":
            return f"STRUCT<{', '.join(f'`{name}` {kind}' for name, kind in zip(self.fields, self.items, strict=True))}>"
        return f"{self.name}<{', '.join(map(str, self.items))}>" if self.items else self.name


BOOLEAN, INTEGER, BIGINT, DOUBLE, VARCHAR = map(Type, ("BOOLEAN", "INTEGER", "BIGINT", "DOUBLE", "VARCHAR"))
BYTES, DATE, TIME, TIMESTAMP = map(Type, ("BYTES", "DATE", "TIME", "TIMESTAMP"))

BASE_TYPES = {kind.name: kind for kind in (BOOLEAN, INTEGER, BIGINT, DOUBLE, VARCHAR, BYTES, DATE, TIME, TIMESTAMP)} | {
    "INT": INTEGER,
    "STRING": VARCHAR,
}
NUMBERS = ("INTEGER", "BIGINT", "DECIMAL", "DOUBLE")  # each widens to those after it
TIMES = ("DATE", "TIME", "TIMESTAMP")
WHOLE_DIGITS = {"INTEGER": 10, "BIGINT": 19}
BITS = {"INTEGER": 32, "BIGINT": 64}


def decimal(precision: int, scale: int) -> Type:
    if precision < 1 or not 0 <= scale <= precision:
        raise RefusedError(f"DECIMAL({precision}, {scale}): precision must be >= 1 and >= scale, scale >= 0")
    return Type("DECIMAL", precision, scale)


def array(element: Type) -> Type:
    return Type("ARRAY", items=(element,))


def map_of(key: Type, value: Type) -> Type:
    return Type("MAP", items=(key, value))


def struct(fields: dict[str, Type]) -> Type:
    return Type("STRUCT", items=tuple(fields.values()), fields=tuple(fields))


def is_number(kind: Type) -> bool:
    return kind.name in NUMBERS


def as_decimal(kind: Type) -> Type:
    """A whole number's type as a decimal's."""
    return kind if kind.name == "DECIMAL" else Type("DECIMAL", WHOLE_DIGITS[kind.name], 0)


def wider(left: Type, right: Type) -> Type:
    """The type that two numbers of a list or array get."""
    if left == right:
        return left
    if not (is_number(left) and is_number(right)):
        raise RefusedError(f"operator does not exist: {left} and {right} have no common type")
    name = max(left.name, right.name, key=NUMBERS.index)
    if name != "DECIMAL":
        return Type(name)
    first, second = as_decimal(left), as_decimal(right)
    scale = max(first.scale, second.scale)
    return decimal(max(first.precision - first.scale, second.precision - second.scale) + scale, scale)


def arithmetic(operator: str, left: Type, right: Type) -> Type:
    """The type of a sum, difference, product, quotient or remainder."""
    if left == right == VARCHAR and operator == "+":
        return VARCHAR
    if not (is_number(left) and is_number(right)):
        raise RefusedError(f"Error processing expression: unsupported arithmetic types {left} {operator} {right}")
    name = max(left.name, right.name, key=NUMBERS.index)
    return Type(name) if name != "DECIMAL" else DECIMAL_RESULTS[operator](as_decimal(left), as_decimal(right))


def _sum(left: Type, right: Type) -> Type:
    scale = max(left.scale, right.scale)
    return decimal(max(left.precision - left.scale, right.precision - right.scale) + scale + 1, scale)


def _product(left: Type, right: Type) -> Type:
    return decimal(left.precision + right.precision + 1, left.scale + right.scale)


def _quotient(left: Type, right: Type) -> Type:
    scale = max(6, left.scale + right.precision + 1)
    return decimal(left.precision - left.scale + right.scale + scale, scale)


def _remainder(left: Type, right: Type) -> Type:
    scale = max(left.scale, right.scale)
    return decimal(min(left.precision - left.scale, right.precision - right.scale) + scale, scale)


DECIMAL_RESULTS = {"+": _sum, "-": _sum, "*": _product, "/": _quotient, "%": _remainder}


def comparable(left: Type, right: Type, equality: bool) -> bool:
    """Whether two types may be compared, for equality or for order too."""
    names = {left.name, right.name}
    if is_number(left) or is_number(right):
        return is_number(left) and is_number(right)
    if names & {"BOOLEAN", "ARRAY", "MAP", "STRUCT"}:
        return len(names) == 1 and equality
    return len(names) == 1 or names == {"DATE", "TIMESTAMP"} or ("VARCHAR" in names and bool(names & set(TIMES)))


CASTS = {
    "BOOLEAN": {"VARCHAR"},
    "INTEGER": {"BIGINT", "DECIMAL", "DOUBLE", "VARCHAR"},
    "BIGINT": {"INTEGER", "DECIMAL", "DOUBLE", "VARCHAR"},
    "DECIMAL": {"INTEGER", "BIGINT", "DECIMAL", "DOUBLE", "VARCHAR"},
    "DOUBLE": {"INTEGER", "BIGINT", "DECIMAL", "VARCHAR"},
    "VARCHAR": {"BOOLEAN", "INTEGER", "BIGINT", "DECIMAL", "DOUBLE", "TIMESTAMP", "DATE", "TIME"},
    "TIMESTAMP": {"VARCHAR", "DATE", "TIME"},
    "DATE": {"VARCHAR", "TIMESTAMP"},
    "TIME": {"VARCHAR"},
    "ARRAY": {"ARRAY", "VARCHAR"},
    "MAP": {"MAP", "VARCHAR"},
    "STRUCT": {"STRUCT", "VARCHAR"},
    "BYTES": set(),
}


def check_cast(source: Type, target: Type) -> None:
    if source == target:
        return
    if target.name not in CASTS[source.name]:
        raise RefusedError(f"Cast of {source} to {target} is not supported")
    if source.name == target.name in ("ARRAY", "MAP"):
        for inner, outer in zip(source.items, target.items, strict=True):
            check_cast(inner, outer)
