"""The page that shows queries and their programs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kandle.ksql.program import ScriptRole
from kandle.plan.explain import explain
from kandle.plan.plan import plan
from tests.ksql.programs.cases import Case

HEAD = """# Queries and their KSQL, side by side

Each query as you write it, and the KSQL that `kandle script` makes from it in role `live`, in which kandle closes
the bars, fills gaps and rolls up. Some queries are also shown with the output of `kandle explain` and in role
`all`, in which ksqlDB does everything; where ksqlDB cannot, the error message is shown. The streams and tables
that the queries read are declared [at the end](#what-the-queries-read).

The tests in `tests/ksql/programs/` make this page. They also run the same programs in a simulator of ksqlDB and
compare the bars with those of kandle's engine.
"""

END = """## What the queries read

`kandle script` prints the declarations of what a query reads before its statements.
"""

BOTH = ("bars", "bars_in_sessions", "averages", "gaps_skipped", "ends_of_every_type")
"""Cases that are shown in both roles and with the output of `kandle explain`."""


def page(cases: Sequence[Case]) -> str:
    """Return the page as Markdown."""
    declared = {statement.text: None for case in cases for statement in case.script(ScriptRole.LIVE).declarations}
    sections = [line for case in cases for line in _section(case)]
    return "\n".join([HEAD, *sections, END, *_block("sql", "\n\n".join(declared))]).rstrip() + "\n"


def _section(case: Case) -> Iterator[str]:
    yield f"## {case.title}"
    yield ""
    yield from _block("py", case.text)
    if case.name in BOTH:
        yield from _block("text", explain(plan(case.query)))
    for role in case.roles if case.name in BOTH else case.roles[:1]:
        if case.name in BOTH:
            yield f"Role {role.value}:\n"
        yield from _block("sql", _statements(case, role))
    if case.refused:
        yield f"Role all: {case.refused_text}\n"


def _statements(case: Case, role: ScriptRole) -> str:
    program = case.script(role).programs[case.query.target.name]
    return "\n\n".join(statement.text for statement in program.statements)


def _block(language: str, text: str) -> Iterator[str]:
    yield f"```{language}"
    yield text
    yield "```"
    yield ""
