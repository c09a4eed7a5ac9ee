"""What `kandle doctor` says of a cluster of which a broker is down."""

from __future__ import annotations

import pytest

from kandle.cli.server_checks import topic_access_findings
from kandle.context.options import Options
from kandle.plan.topics import TopicSpec
from tests.brokers.needed import kafka_or_skip
from tests.kafka.summing import Application, settings, wait_until
from tools.kafka.cluster import Cluster


@pytest.mark.soak
def test_a_broker_that_is_down_is_named_by_the_topics_that_miss_it() -> None:
    kafka_or_skip()
    app = Application()
    with Cluster(brokers=3) as cluster:
        own = settings(cluster.bootstrap, replication=3)
        options, wanted = Options(**own), [TopicSpec(app.ticks, ())]
        with app.context.open(access="write_only", **own):
            pass
        assert [finding.level for finding in topic_access_findings(options, wanted)] == ["ok"]
        cluster.broker(3).kill()
        said = f"topic {app.ticks}: brokers [3] lag behind or are down"
        wait_until(lambda: [finding.message for finding in topic_access_findings(options, wanted)] == [said])
