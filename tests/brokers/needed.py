"""Whether a real Kafka can run here: tests that need one ask first."""

from __future__ import annotations

import os

import pytest

from tools.kafka.errors import DownloadError, MissingToolError
from tools.kafka.libraries import java, libraries


def kafka_or_skip() -> None:
    """Skip, with what is missing, where no Kafka can run; in CI, where CI is set, that is a failure."""
    try:
        java()
        libraries()
    except (MissingToolError, DownloadError) as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must run the tests with Kafka: {error}", pytrace=False)
        pytest.skip(f"no Kafka here: {error}")
