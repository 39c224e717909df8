"""Beside the JVM: brokers of both kinds under a controller of either kind; each dies, and nothing acknowledged is lost.

With --broker=kafka all nodes are Apache Kafka's, which proves the tests.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from harness.cluster.campaign import QUICK, SOURCE, TARGET, Campaign
from harness.cluster.cluster import Cluster
from harness.cluster.handover import OpenTransaction, committed
from harness.cluster.load import CLIENT, PARTITIONS, PROTOCOLS, Group, Load, read_back, wait_until
from harness.cluster.metadata_files import shutdown_of
from harness.cluster.network import Loopback
from harness.java_clients import JavaClients

TWO_BROKERS: Final = {
    **QUICK,
    "default.replication.factor": "2",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "2",
    "transaction.state.log.replication.factor": "2",
    "transaction.state.log.min.isr": "1",
}
CONTROLLER, JVM, OURS = 1, 2, 3
"""Node ids: a controller, a broker of Apache Kafka, a broker of the kind under test."""

pytestmark = pytest.mark.usefixtures("java")


@pytest.fixture(scope="module", params=["kafka", "tested"])
def _cluster(request: pytest.FixtureRequest, cluster_kind: str, folder: Path) -> Iterator[Cluster]:
    """A controller of Apache Kafka, or of the kind under test, and a broker of each kind."""
    controller = "kafka" if request.param == "kafka" else cluster_kind
    plan = [(controller, "controller"), ("kafka", "broker"), (cluster_kind, "broker")]
    with Cluster(folder / f"under-{request.param}", plan, network=Loopback(), settings=TWO_BROKERS) as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: Cluster) -> Cluster:
    """All of it up, whatever a test before has left."""
    _cluster.start()
    return _cluster


def test_the_other_is_follower_and_leader(cluster: Cluster, java_clients: JavaClients) -> None:
    """Each is in the ISR of the other's partitions: what is acknowledged by one is in the log of the other."""
    topic = "both-ways"
    cluster.create_assigned_topic(topic, [(JVM, OURS), (OURS, JVM)], min_insync_replicas="2")
    assert [(each.leader, each.isr) for each in cluster.partitions(topic)] == [(JVM, (JVM, OURS)), (OURS, (OURS, JVM))]
    with java_clients.producer(cluster.address) as producer:
        java_clients.send(producer, topic, 2, [b"%d" % number for number in range(200)])
    assert [read(cluster, topic, index) for index in (0, 1)] == [
        [b"%d" % number for number in range(first, 200, 2)] for first in (0, 1)
    ]


def test_either_dies_under_load(request: pytest.FixtureRequest, cluster: Cluster) -> None:
    """kill -9 of each while it leads, and with more --rounds SIGTERM: under a load as in the cluster campaign."""
    seed = request.config.getoption("--seed")
    rounds = request.config.getoption("--rounds")
    campaign = Campaign(cluster, cluster.folder, seed)
    assert {each.leader for topic in (SOURCE, TARGET) for each in cluster.partitions(topic)} == {JVM, OURS}
    faults = ["kill leader", "kill leader", "terminate leader", "terminate leader"]
    victims = [cluster.node((JVM, OURS)[number % 2]) for number in range(rounds)]
    try:
        campaign.hurt((faults[number % len(faults)], victim) for number, victim in enumerate(victims))
    finally:
        print(f"\n{cluster.node(CONTROLLER)} controls, seed {seed}: {campaign}")


def test_controlled_shutdown_hands_over_leaders_and_coordinators(cluster: Cluster, java_clients: JavaClients) -> None:
    """SIGTERM of each under a load: before it goes all that it led is led by the other, coordinators as well.

    Groups of both protocols read on from what they had committed; a transaction that is open meanwhile is committed, or
    aborted, by another coordinator than began it.
    """
    topic, crossed = "stopped", "crossed"
    both = [(JVM, OURS), (OURS, JVM), (JVM, OURS)]
    cluster.create_assigned_topic(topic, both)
    cluster.create_assigned_topic(crossed, both[:1])
    load = Load(cluster.address, topic, per_s=100)
    groups = {name: Group(cluster.address, f"stopped-{name}", topic, name) for name in PROTOCOLS}
    transaction = OpenTransaction(java_clients, cluster.address, "crossing", crossed)
    told = []
    try:
        for victim, commit in ((OURS, True), (JVM, False), (OURS, True)):
            wait_read(load, groups)
            transaction.begin()
            began_s, before = time.monotonic(), {name: dict(group.committed) for name, group in groups.items()}
            cluster.node(victim).stop()
            survivor = OURS if victim == JVM else JVM
            asked = cluster.node(survivor)
            assert {each.leader for each in cluster.partitions(asked=asked)} == {survivor}
            moved, left = shutdown_of(cluster.node(CONTROLLER), victim)
            assert moved > 0
            assert left == 0
            transaction.end(commit=commit)
            wait_read(load, groups)
            for name, offsets in before.items():
                now = committed(cluster.address, f"stopped-{name}", topic, PARTITIONS)
                assert all(now[index] >= offset for index, offset in offsets.items()), (name, offsets, now)
            assert read(cluster, crossed, 0, isolation_level="read_committed") == transaction.expected
            assert committed(cluster.address, "crossing", crossed, 1) == {0: transaction.offset}
            told.append(f"{cluster.node(victim)}: {moved} moved, {load.longest_gap_s(began_s, time.monotonic()):.2f} s")
            cluster.start()
        load.stop()
    finally:
        load.give_up()
        transaction.close()
        for group in groups.values():
            group.stop()
    read_back(cluster.address, topic, [writer.acknowledged for writer in load.writers])
    print(f"\n{cluster.node(CONTROLLER)} controls: {told}; {load}; {[str(group) for group in groups.values()]}")


def wait_read(load: Load, groups: dict[str, Group]) -> None:
    """Until the groups have read what is acknowledged now, and committed."""
    marks = [writer.acknowledged + 1 for writer in load.writers]

    def reached() -> bool:
        return all(
            group.committed.get(index, 0) >= mark for group in groups.values() for index, mark in enumerate(marks)
        )

    def check() -> None:
        load.check()
        for group in groups.values():
            group.check()

    wait_until(reached, lambda: f"{marks} read by {[str(group) for group in groups.values()]}; {load}", check)


@pytest.mark.parametrize(("first", "second"), [(JVM, OURS), (OURS, JVM)], ids=["of the JVM", "of the tested"])
def test_a_log_that_diverged_is_truncated(cluster: Cluster, first: int, second: int) -> None:
    """A leader's records that only it had, and another that led without them: it takes over the other's log.

    The second misses what the first writes alone, leads by an unclean election, and writes others at the same offsets.
    When the first is back it is told of the epoch where they parted (KIP-595's DivergingEpoch), and truncates.
    """
    topic = f"diverged-{first}"
    cluster.create_assigned_topic(topic, [(first, second)], unclean_leader_election_enable="true")
    write(cluster, topic, b"common", 50, acks="all")
    cluster.node(second).kill()
    wait_isr(cluster, topic, {first})
    write(cluster, topic, b"lost", 70)
    cluster.node(first).kill()
    cluster.node(second).launch()
    cluster.wait_until(lambda: cluster.leader(topic) == second, f"node {second} leads by an unclean election")
    write(cluster, topic, b"kept", 30)
    cluster.node(first).launch()
    cluster.wait_whole()
    expected = [b"common"] * 50 + [b"kept"] * 30
    assert read(cluster, topic, 0) == expected
    write(cluster, topic, b"more", 10, acks="all")
    cluster.node(second).stop()
    cluster.wait_until(lambda: cluster.leader(topic) == first, f"node {first} leads again")
    assert read(cluster, topic, 0) == expected + [b"more"] * 10
    cluster.node(first).stop()
    logs = [log_of(cluster, node_id, topic) for node_id in (first, second)]
    assert logs[0] == logs[1]
    cluster.start()


def write(cluster: Cluster, topic: str, value: bytes, count: int, acks: str = "1") -> None:
    """So many records of one value to partition 0, in batches of ten."""
    settings = {"bootstrap.servers": cluster.address, "acks": acks, "batch.num.messages": 10, **CLIENT}
    producer = Producer(settings)
    for _ in range(count):
        producer.produce(topic, value, partition=0)
    assert producer.flush(60) == 0


def read(cluster: Cluster, topic: str, index: int, isolation_level: str = "read_uncommitted") -> list[bytes]:
    """All values of a partition, up to the end that its leader tells of."""
    settings = {"group.id": "nobody", "isolation.level": isolation_level, "enable.partition.eof": True, **CLIENT}
    consumer = Consumer({"bootstrap.servers": cluster.address, **settings})
    try:
        consumer.assign([TopicPartition(topic, index, 0)])
        values: list[bytes] = []
        while True:
            message = consumer.poll(60)
            assert message is not None, f"{topic}-{index}: {len(values)} values, and no end"
            if (error := message.error()) is None:
                values.append(message.value())
            elif error.code() == KafkaError._PARTITION_EOF:
                return values
    finally:
        consumer.close()


def wait_isr(cluster: Cluster, topic: str, isr: set[int]) -> None:
    cluster.wait_until(lambda: set(cluster.partitions(topic)[0].isr) == isr, f"the ISR of {topic} is {isr}")


def log_of(cluster: Cluster, node_id: int, topic: str) -> bytes:
    """The segments of partition 0 on a node that is down."""
    folder = cluster.node(node_id).data_dir / f"{topic}-0"
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.log")))
