"""Topics that have been deleted while nothing ran: told, before they are made anew as if there had been none."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from kandle.log.port import Log
from kandle.plan.plan import Plan
from kandle.runtime.topics import changelog_name, late_name, repartition_name


def deleted_topics(log: Log, plan: Plan, wanted: Iterable[str], there: Collection[str]) -> dict[str, str]:
    """By topic what is to be said of those that are not there, though the query has a state and so has had them all.

    A query whose state is gone too says so itself, when it is asked to go on.
    """
    changelog = changelog_name(plan)
    if changelog not in there or not any(log.ends(changelog)):
        return {}
    name, lost = plan.query.target.name, _contents(plan)
    return {
        topic: f"there is no topic {topic}, though {name} was made before; if it was deleted, what is lost: "
        + lost.get(topic, "heartbeats that were not read yet")
        for topic in wanted
        if topic not in there
    }


def _contents(plan: Plan) -> dict[str, str]:
    """What is in the topics of a query, by name; heartbeats are in all others."""
    query = plan.query
    found = {
        query.source.topic: "events that were not read yet",
        repartition_name(plan): "events that were not read yet",
        late_name(plan): "late events so far",
    }
    if query.schedule is not None:
        found[query.schedule.entity.topic] = "the rows of the schedule"
    for bar in plan.emitted:
        found[bar.live_topic] = f"live {bar.name} bars, until they change again"
        found[bar.final_topic] = f"final {bar.name} bars so far"
    return found
