"""A partition that has no leader while a transaction is under way: it is worth trying again, and the worker does."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient

from kandle.errors import UnavailableError
from kandle.log.kafka.log import KafkaLog
from kandle.log.kafka.producer import Transactions
from kandle.log.kafka.settings import KafkaSettings
from kandle.log.records import EncodedWrite
from kandle.time.timeframe import SECOND
from tests.brokers.needed import kafka_or_skip
from tests.log.building import topic_spec
from tests.waiting import LIMIT
from tools.kafka.cluster import Cluster


@pytest.mark.soak
def test_records_for_a_partition_whose_only_broker_is_down_are_tried_again() -> None:
    kafka_or_skip()
    with Cluster(brokers=3) as cluster:
        log = KafkaLog(KafkaSettings(cluster.bootstrap, transaction=2 * SECOND, patience=2 * SECOND, request=SECOND))
        log.ensure(topic_spec("outage", partitions=3))
        topic = AdminClient(cluster.client_properties()).list_topics("outage", timeout=LIMIT).topics["outage"]
        number = next(number for number, partition in topic.partitions.items() if partition.leader == 3)
        write = EncodedWrite("outage", number, [None], [b"value"])
        transactions = Transactions(log.clients, "outage", "outage")
        assert transactions.commit([write], None) == [0]
        cluster.broker(3).kill()
        for _ in range(2):
            with pytest.raises(UnavailableError, match=r"commit .* to outage: .*timed out"):
                transactions.commit([write], None)
        cluster.broker(3).start()
        assert transactions.commit([write], None)[0] > 0
        log.close()
