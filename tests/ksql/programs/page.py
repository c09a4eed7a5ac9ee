"""The page that shows queries and their programs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kandle.ksql.program import Role
from kandle.plan.explain import explain
from kandle.plan.plan import plan
from tests.ksql.programs.cases import Case

HEAD = """# Queries and their KSQL, side by side

Each query as it is written, as `kandle explain` tells it, and as `kandle script` compiles it for ksqlDB. Role all is shown
of some of those that ksqlDB can do all by itself; of the others the reason stands there.

This page is made from the tests (`tests/ksql/programs/`), in which the same programs are run and compared with the engine.
"""


BOTH = ("bars", "bars_in_sessions", "averages", "gaps_skipped", "ends_of_every_type")
"""Cases of which both roles are shown."""


def page(cases: Iterable[Case]) -> str:
    """The page as Markdown."""
    return "\n".join([HEAD, *(line for case in cases for line in _section(case))]).rstrip() + "\n"


def _section(case: Case) -> Iterator[str]:
    yield f"## {case.title}"
    yield ""
    yield from _block("py", case.text)
    if case.query.window is not None:
        yield from _block("text", explain(plan(case.query)))
    for role in case.roles if case.name in BOTH else case.roles[:1]:
        if case.query.window is not None:
            yield f"Role {role.value}:\n"
        yield from _block("sql", _statements(case, role))
    if case.refused:
        yield f"Role all: {case.refused_text}\n"


def _statements(case: Case, role: Role) -> str:
    made = case.script(role)
    declared = made.declarations if role is Role.LIVE else ()
    program = made.programs[case.query.target.name]
    return "\n\n".join(statement.text for statement in (*declared, *program.statements))


def _block(language: str, text: str) -> Iterator[str]:
    yield f"```{language}"
    yield text
    yield "```"
    yield ""
