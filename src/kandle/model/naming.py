"""Names of topics."""

from __future__ import annotations

import re

from kandle.errors import ModelError

LONGEST_TOPIC = 249
"""Kafka's limit."""


def snake_case(name: str) -> str:
    """`QuoteBar` becomes `quote_bar`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def checked_topic(topic: str) -> str:
    """The topic, if Kafka takes it as a name."""
    if not re.fullmatch(r"[A-Za-z0-9._-]+", topic) or topic in (".", ".."):
        raise ModelError(f"{topic!r} is not a topic name: use letters, digits, '.', '_' and '-'")
    if len(topic) > LONGEST_TOPIC:
        raise ModelError(f"topic name {topic[:40]!r}... has {len(topic)} characters, {LONGEST_TOPIC} are allowed")
    return topic


def bar_topic(topic: str, timeframe: str, role: str) -> str:
    """`bars`, `5m` and `final` become `bars_5m_final`."""
    return checked_topic(f"{topic}_{timeframe}_{role}")
