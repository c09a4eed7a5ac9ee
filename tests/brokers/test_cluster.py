"""The brokers that other tests rely on: what they keep, what they let in, and that none is left behind."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.brokers.needed import kafka_or_skip
from tests.processes import RunningProcess
from tests.waiting import LIMIT
from tools.kafka.broker import ROOT, wait_until
from tools.kafka.cluster import Cluster
from tools.kafka.errors import BrokerStateError, PortInUseError, SettingsError, StartError
from tools.kafka.ports import check_free, free_ports

Properties = dict[str, str | int | float | bool]
# A client that finds a broker down asks again soon; by default it waits for up to 10 s.
QUIET = {"log_level": 0, "reconnect.backoff.max.ms": 200}


@pytest.fixture(autouse=True, scope="module")
def kafka() -> None:
    kafka_or_skip()


def create_topic(clients: Properties, copies: int = 1) -> None:
    """Make the topic `ticks` with one partition."""
    # The client must outlive the answer.
    asking = AdminClient(clients)
    asking.create_topics([NewTopic("ticks", 1, copies)])["ticks"].result(LIMIT)


def with_topic(cluster: Cluster, copies: int = 1) -> Properties:
    """Create the topic `ticks`, and return what clients need to connect."""
    clients: Properties = {**cluster.client_properties(), **QUIET}
    create_topic(clients, copies)
    return clients


def produce(clients: Properties, *values: bytes) -> None:
    """Send records and wait until all copies that are needed have them."""
    failed: list[object] = []
    producer = Producer({**clients, "acks": "all", "message.timeout.ms": LIMIT * 1000})
    for value in values:
        producer.produce("ticks", value, on_delivery=lambda error, _: failed.append(error) if error else None)
    assert producer.flush(LIMIT) == 0 and not failed, failed


def consumed(clients: Properties, count: int) -> list[bytes | None]:
    """So many records from the beginning."""
    consumer = Consumer({**clients, "group.id": "nobody", "enable.auto.commit": False})
    consumer.assign([TopicPartition("ticks", 0, 0)])
    messages = consumer.consume(count, LIMIT)
    consumer.close()
    return [message.value() for message in messages]


@contextmanager
def in_foreground(folder: Path, port: int) -> Iterator[RunningProcess]:
    """`python -m tools.kafka` with its data in `folder`, never left behind."""
    process = RunningProcess([sys.executable, "-m", "tools.kafka", "--port", str(port), "--data", str(folder)], ROOT)
    try:
        yield process
    finally:
        process.kill()


def stop(process: RunningProcess, number: signal.Signals) -> None:
    """Have it end by itself, with no further word and no error."""
    process.send(number)
    assert process.ended() == ("", "")


def is_free(port: int) -> bool:
    try:
        check_free(port)
    except PortInUseError:
        return False
    return True


def test_a_topic_and_its_records_survive_a_broker_that_is_killed_and_one_that_is_stopped() -> None:
    with Cluster() as cluster:
        clients = with_topic(cluster)
        produce(clients, b"1")
        cluster.broker(1).kill()
        assert not cluster.broker(1).is_running
        cluster.broker(1).start()
        produce(clients, b"2")
        cluster.stop()
        cluster.start()
        assert consumed(clients, 2) == [b"1", b"2"]


@pytest.mark.soak
def test_three_brokers_go_on_while_one_is_down_and_take_it_back() -> None:
    # The others notice that a broker is gone when its session is over.
    with Cluster(brokers=3, properties={"broker.session.timeout.ms": "1500"}) as cluster:
        clients = with_topic(cluster, copies=3)
        produce(clients, b"1")
        leader = AdminClient(clients).list_topics("ticks", LIMIT).topics["ticks"].partitions[0].leader
        cluster.broker(leader).kill()
        produce(clients, b"2")
        cluster.broker(leader).start()
        assert consumed(clients, 2) == [b"1", b"2"]


def test_a_paused_broker_answers_again_once_it_goes_on_and_a_paused_one_can_be_stopped_and_nothing_of_it_stays() -> None:
    with Cluster() as cluster:
        assert (folder := cluster.broker(1).log.parents[1]).is_dir()
        broker, asking = cluster.broker(1), AdminClient({**cluster.client_properties(), **QUIET})
        broker.pause()
        assert broker.is_running
        with pytest.raises(KafkaException):
            asking.list_topics(timeout=0.5)
        broker.resume()
        assert set(asking.list_topics(timeout=LIMIT).brokers) == {1}
        broker.pause()
        broker.stop()
        assert not broker.is_running
        with pytest.raises(BrokerStateError, match="broker 1 does not run"):
            broker.pause()
    assert not folder.exists()


def test_a_wrong_password_is_refused_and_a_user_may_only_do_what_was_granted() -> None:
    with Cluster(secured=True, users={"reader": 'of "books" \\ é'}) as cluster:
        clients = with_topic(cluster)
        assert "ticks" in AdminClient(clients).list_topics(timeout=LIMIT).topics
        wrong = AdminClient({**clients, "sasl.password": "wrong"})
        nobody = AdminClient({"bootstrap.servers": cluster.bootstrap, **QUIET})
        for refused in (wrong, nobody):
            with pytest.raises(KafkaException):
                refused.list_topics(timeout=1)
        reader = AdminClient({**cluster.client_properties("reader"), **QUIET})
        assert not reader.list_topics(timeout=LIMIT).topics
        with pytest.raises(SettingsError, match="no user 'writer'; there are admin, reader"):
            cluster.client_properties("writer")


def test_in_the_foreground_it_says_when_it_is_ready_stops_when_told_and_keeps_its_data(tmp_path: Path) -> None:
    [port] = free_ports(1)
    clients: Properties = {"bootstrap.servers": f"127.0.0.1:{port}", **QUIET}
    with in_foreground(tmp_path, port) as running:
        assert running.next_line() == f"Kafka 4.3.0 is ready at 127.0.0.1:{port}; data in {tmp_path}; Ctrl-C stops it\n"
        create_topic(clients)
        stop(running, signal.SIGINT)
    assert is_free(port)
    with in_foreground(tmp_path, port) as running:
        running.next_line()
        assert "ticks" in AdminClient(clients).list_topics(timeout=LIMIT).topics
        stop(running, signal.SIGTERM)
    assert is_free(port)


def test_ctrl_c_while_it_starts_ends_it_in_order(tmp_path: Path) -> None:
    [port] = free_ports(1)
    with in_foreground(tmp_path, port) as running:
        assert wait_until((tmp_path / "broker-1" / "output.log").exists, LIMIT)
        stop(running, signal.SIGINT)
    assert is_free(port)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends processes with their parent")
def test_a_broker_ends_with_the_process_that_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    [port] = free_ports(1)
    with in_foreground(tmp_path, port) as killed:
        killed.next_line()
        assert not is_free(port)
        killed.kill()
    assert wait_until(lambda: is_free(port), LIMIT)


def test_a_port_in_use_is_an_error_by_name_and_not_a_traceback(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"127.0.0.1:{port}"), Cluster(ports=[port]):
            pytest.fail("it started")
        with in_foreground(tmp_path, port) as refused:
            said, complained = refused.ended(1)
    assert not said
    assert complained.startswith(f"kafka: error: 127.0.0.1:{port} ") and "Traceback" not in complained


def test_a_broker_that_ends_by_itself_is_an_error_that_shows_what_it_said() -> None:
    cluster = Cluster(properties={"authorizer.class.name": "no.such.Authorizer"})
    with pytest.raises(StartError, match=r"(?s)broker 1 has ended by itself.*no\.such\.Authorizer"), cluster:
        pytest.fail("it started")


def test_the_data_of_three_brokers_are_not_taken_for_those_of_one(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text('{"id": "a2FuZGxl", "brokers": 3}')
    with pytest.raises(SettingsError, match="has data of 3 brokers, not 1"), Cluster(folder=tmp_path):
        pytest.fail("it started")


def test_only_the_main_thread_may_start_a_broker() -> None:
    errors: list[Exception] = []

    def start() -> None:
        try:
            Cluster().start()
        except BrokerStateError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "start it from the main thread" in str(errors[0])


def test_ports_that_were_taken_since_they_were_chosen_are_chosen_again() -> None:
    cluster = Cluster()
    taken = cluster.ports
    with socket.create_server(("127.0.0.1", taken[0])), cluster:
        assert set(cluster.ports).isdisjoint(taken)
        create_topic(cluster.client_properties())
