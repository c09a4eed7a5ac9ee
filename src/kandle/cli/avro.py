"""`kandle avro`: the Avro schemas of all topics of a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from kandle.cli.contexts import ContextName, load_context
from kandle.cli.output import write_text
from kandle.context.model import Model
from kandle.errors import ModelError
from kandle.log.port import TopicSpec
from kandle.log.schema import entity_topic
from kandle.model.entity import EntityModel
from kandle.plan.plan import Plan, plan
from kandle.query.query import Late
from kandle.runtime.topics import (
    Retentions,
    bar_topics,
    heartbeat_names,
    heartbeat_topic,
    is_keyed_by_group,
    late_name,
    repartition_name,
)
from kandle.serde.formats import Formats, topic_schemas


def avro_command(
    context: ContextName = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for one file <subject>.avsc each.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object of schemas by subject.")] = False,
) -> None:
    """Print the Avro schemas of a context.

    Of keys and values of entities, live and final bars, heartbeats and late events. It needs the model only.
    Keys and values in other formats have none; a key of one field is its bare value.
    """
    market = load_context(context)
    schemas = {subject: json.loads(text) for subject, text in _schemas(market.model())}
    if not schemas:
        raise ModelError(f"no topic of {market.__name__} has AVRO as key_format or value_format, so there are no schemas")
    if out is not None:
        for subject, schema in schemas.items():
            write_text(out / f"{subject}.avsc", f"{_pretty(schema)}\n")
        typer.echo(f"{len(schemas)} schemas are in {out}")
    elif as_json:
        typer.echo(json.dumps(schemas, ensure_ascii=False))
    else:
        typer.echo("\n\n".join(f"// {subject}\n{_pretty(schema)}" for subject, schema in schemas.items()))


def _pretty(schema: object) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False)


def _schemas(model: Model) -> Iterator[tuple[str, str]]:
    for spec, entity in _topics(model):
        formats = Formats() if entity is None else Formats(entity.key_format, entity.value_format)
        yield from topic_schemas(spec.name, spec.columns, spec.keys, formats, entity).items()


def _topics(model: Model) -> Iterator[tuple[TopicSpec, EntityModel | None]]:
    """All topics that hold rows, with the entities of those that have one."""
    plans = [plan(query) for query in model.queries.values() if query.has_tumbling]
    made = {each.query.target.cls for each in plans}
    yield from ((entity_topic(entity), entity) for entity in model.entities.values() if entity.cls not in made)
    for each, heartbeats in zip(plans, heartbeat_names(plans), strict=True):
        yield from _topics_of(each, heartbeats)


def _topics_of(each: Plan, heartbeats: str) -> Iterator[tuple[TopicSpec, EntityModel | None]]:
    query, retentions = each.query, Retentions()
    partitions, replication = query.target.partitions, query.target.replication
    for bar in each.emitted:
        yield from ((spec, query.target) for spec in bar_topics(query.target, bar, partitions, retentions))
    yield heartbeat_topic(heartbeats, partitions, replication, retentions.heartbeats), None
    if not is_keyed_by_group(each):
        yield entity_topic(query.source, repartition_name(each)), query.source
    if query.late is Late.TOPIC:
        yield entity_topic(query.source, late_name(each)), query.source
