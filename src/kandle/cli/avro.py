"""The command `kandle avro`: the Avro schemas of all topics of a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from kandle.cli.contexts import ContextName, load_context
from kandle.cli.output import write_text
from kandle.context.context import Context
from kandle.context.options import Options
from kandle.context.topic_options import instant_rule, query_topic_settings
from kandle.errors import ModelError
from kandle.plan.plan import plan
from kandle.plan.query_topics import context_topics, ksqldb_topics
from kandle.plan.topics import entity_topic
from kandle.serde.codec import Formats, topic_schemas


def avro_command(
    context: ContextName = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for files <subject>.avsc.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object of schemas by subject.")] = False,
) -> None:
    """Print the Avro schemas of a context.

    Lists the schemas of keys and values of every topic that the context reads or writes. Needs no log. Keys and values in
    other formats have no schema; a key of one field is its bare value.

    Example: kandle avro app:Market --out schemas
    """
    market = load_context(context)
    schemas = {subject: json.loads(text) for subject, text in _schemas(market)}
    if not schemas:
        raise ModelError(f"no topic of {market.__name__} has AVRO as key_format or value_format, so there are no schemas")
    if out is not None:
        for subject, schema in schemas.items():
            write_text(out / f"{subject}.avsc", f"{_pretty(schema)}\n")
        typer.echo(f"{len(schemas)} schemas written to {out}")
    elif as_json:
        typer.echo(json.dumps(schemas, ensure_ascii=False))
    else:
        typer.echo("\n\n".join(f"// {subject}\n{_pretty(schema)}" for subject, schema in schemas.items()))


def _pretty(schema: object) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False)


def _schemas(market: type[Context]) -> Iterator[tuple[str, str]]:
    """Yield subject and schema of the keys and values of all topics that have Avro."""
    model = market.model()
    plans = [plan(query) for query in model.queries.values() if query.has_tumbling]
    options = Options.load()
    instants = instant_rule(options)
    topics_of = ksqldb_topics if options.engine.kind == "ksqldb" else context_topics
    topics = [topic for query in topics_of(plans, settings=query_topic_settings(options)) for topic in query.all]
    known = {topic.spec.name for topic in topics} | {query_plan.query.target.topic for query_plan in plans}
    for entity in model.entities.values():
        if entity.topic not in known:
            formats = Formats(entity.key_format, entity.value_format, instants=instants)
            spec = entity_topic(entity)
            yield from topic_schemas(spec.name, spec.columns, spec.keys, formats, entity).items()
    for topic in topics:
        spec, content = topic.spec, topic.content
        if content.windowed:
            # ksqlDB registers the schemas of its own tables.
            continue
        formats = Formats(content.key_format, content.value_format, instants=instants)
        yield from topic_schemas(spec.name, spec.columns, spec.keys, formats, content.entity).items()
