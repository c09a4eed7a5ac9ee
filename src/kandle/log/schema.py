"""What may change in a topic: new nullable columns are added, everything else about columns and keys is refused by name."""

from __future__ import annotations

from dataclasses import replace

from kandle.errors import SchemaError
from kandle.log.port import Column, TopicSpec


def merged_columns(there: TopicSpec, wanted: TopicSpec) -> tuple[Column, ...]:
    """The columns of a topic with the wanted new ones behind; SchemaError names what cannot be changed."""
    if there.keys != wanted.keys:
        raise SchemaError(
            f"topic {there.name} has the key ({', '.join(there.keys)}), but ({', '.join(wanted.keys)}) is declared; "
            "a key cannot change: use another topic"
        )
    old = {column.name: column for column in there.columns}
    new = {column.name: column for column in wanted.columns}
    for name, column in old.items():
        _check_same(there.name, column, new.get(name))
    added = [column for name, column in new.items() if name not in old]
    for column in added:
        if not column.nullable:
            raise SchemaError(
                f"topic {there.name} has no column {column.name}; a new column must be nullable (`{column.name}: ... | None`), "
                "since older records have no value for it"
            )
    return (*there.columns, *added)


def _check_same(topic: str, old: Column, new: Column | None) -> None:
    if new is None:
        raise SchemaError(
            f"topic {topic} has the column {old.name}, which is not declared; declare it again or use another topic"
        )
    if replace(old, name=new.name) != new:
        raise SchemaError(
            f"topic {topic}, column {old.name}: it is {_words(old)} in the topic and {_words(new)} in the declaration; "
            "a column cannot change: use another topic or another column"
        )


def _words(column: Column) -> str:
    words = f"{column.kind} | None" if column.nullable else column.kind
    return words if column.header is None else f"{words} of the header {column.header!r}"


SETTINGS = ("partitions", "replication", "retention", "retention_bytes", "compacted", "time")


def differences(there: TopicSpec, wanted: TopicSpec) -> tuple[str, ...]:
    """Settings that differ from those wanted, in words."""
    return tuple(
        f"topic {there.name}: {name} is {getattr(there, name)}, {getattr(wanted, name)} is declared"
        for name in SETTINGS
        if getattr(there, name) != getattr(wanted, name)
    )
