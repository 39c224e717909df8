"""Voters of both kinds in one metadata quorum: whoever leads it dies, and the others elect one of them and go on.

With --broker=kafka all nodes are Apache Kafka's, which proves the tests.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from harness.cluster.cluster import Cluster, NotNow, ask, gone
from harness.cluster.metadata_files import FOLDER, compared, epochs, snapshots
from harness.cluster.network import Loopback
from harness.cluster.nodes import Node
from harness.versions.world import Wire

from kpybroker.wire.api_keys import ApiKey

QUICK: Final = {
    "controller.quorum.fetch.timeout.ms": "1000",
    "controller.quorum.election.timeout.ms": "600",
    "broker.session.timeout.ms": "3000",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
}
SNAPSHOTS: Final = {
    "metadata.log.max.record.bytes.between.snapshots": "4000",
    "metadata.max.retention.bytes": "1",
    "controller.quorum.fetch.snapshot.max.bytes": "1000",
}
"""Often, nothing kept that is older than the last ones, and several slices of each."""
ROUNDS_MAX: Final = 15
JVM, OURS, LATE = 1, 2, 4
"""Node ids: the voter of Apache Kafka, one of the kind under test, and a broker."""

pytestmark = pytest.mark.usefixtures("java")


@pytest.fixture
def cluster(request: pytest.FixtureRequest, cluster_kind: str, folder: Path) -> Iterator[Cluster]:
    """A controller of Apache Kafka, two of the kind under test, and a broker of that."""
    plan = [
        ("kafka", "controller"),
        (cluster_kind, "controller"),
        (cluster_kind, "controller"),
        (cluster_kind, "broker"),
    ]
    settings = QUICK | getattr(request, "param", {})
    with Cluster(folder / request.node.name, plan, network=Loopback(), settings=settings) as cluster:
        cluster.start()
        cluster.wait_until(lambda: _caught_up(cluster), "all voters fetch")
        yield cluster


def test_the_leader_dies_again_and_again(cluster: Cluster) -> None:
    """What was committed is there under each leader, of whichever kind; who died is told where the logs parted.

    It dies with records that nobody else has, and truncates them when it is back (KIP-595's DivergingEpoch), until a
    leader of each kind has told one of the other kind to.
    """
    topics: list[str] = []
    truncated: list[tuple[int, int]] = []
    while {dead == JVM for dead, leader in truncated if JVM in (dead, leader)} != {True, False}:
        assert len(topics) < ROUNDS_MAX, truncated
        topics.append(f"t{len(topics)}")
        cluster.create_topic(topics[-1], partitions=1, replication=1)
        dead = cluster.node(cluster.quorum().leader)
        tail = die_with_a_tail(cluster, dead)
        cluster.wait_until(lambda dead=dead: _leader(cluster) not in (None, dead.node_id), "another leader")
        assert {each.topic for each in cluster.partitions()} >= set(topics)
        leader = cluster.node(cluster.quorum().leader)
        dead.launch()
        cluster.wait_until(lambda: _caught_up(cluster), "all voters fetch")
        assert parted(tail, leader), f"{dead} had nothing to truncate"
        truncated.append((dead.node_id, leader.node_id))
    for node in cluster.nodes:
        node.kill()
    print(f"\ntruncated (who, led by whom): {truncated}; {compared(cluster.nodes)} batches are equal in all logs")


@pytest.mark.parametrize("cluster", [SNAPSHOTS], indirect=True, ids=["small"])
def test_who_comes_back_too_late_for_the_log(cluster: Cluster) -> None:
    """It is given a snapshot, in slices: a voter of Apache Kafka by ours, then a voter and a broker by Apache Kafka.

    The voter has lost its log: a leader of Apache Kafka deletes what it has a snapshot of once in a minute only.
    """
    jvm, voter, late = cluster.node(JVM), cluster.node(OURS), cluster.node(LATE)
    ended = {}
    for node in (jvm, late):
        node.kill()
        ended[node.node_id] = max(epochs(node))
    cluster.wait_until(lambda: _leader(cluster) not in (None, JVM), "another leader")
    quotas_until_the_log_begins_after(cluster, max(ended.values()))
    jvm.launch()
    cluster.wait_until(lambda: _caught_up(cluster), "all voters fetch")
    assert begins_with_a_snapshot(jvm, ended[JVM])
    slices = slices_of(jvm)
    while cluster.quorum().leader != JVM:
        node = cluster.node(cluster.quorum().leader)
        node.kill()
        cluster.wait_until(lambda node=node: _leader(cluster) not in (None, node.node_id), "another leader")
        node.launch()
        cluster.wait_until(lambda: _caught_up(cluster), "all voters fetch")
    voter.kill()
    shutil.rmtree(voter.data_dir / FOLDER)
    ended[OURS] = 0
    for node in (voter, late):
        node.launch()
    cluster.wait_whole()
    cluster.wait_until(lambda: _caught_up(cluster), "all voters fetch")
    for node in (voter, late):
        assert begins_with_a_snapshot(node, ended[node.node_id])
    read = [slices, slices_of(voter), slices_of(late)]
    assert min(read) > 1
    assert cluster.quorum().leader == JVM
    cluster.create_topic("last", partitions=1, replication=1)
    for node in cluster.nodes:
        node.kill()
    equal, found = compared(cluster.nodes), [snapshots(node) for node in cluster.nodes]
    print(f"\nlogs ended at {ended}, {read} slices of a snapshot each; {found} now")
    print(f"{equal} batches are equal in all logs")


def slices_of(node: Node) -> int:
    """How many FetchSnapshot requests it takes to read the first snapshot that a node has."""
    offset, epoch = snapshots(node)[0]
    size = (node.data_dir / FOLDER / f"{offset:020}-{epoch:010}.checkpoint").stat().st_size
    return -(-size // int(SNAPSHOTS["controller.quorum.fetch.snapshot.max.bytes"]))


def quotas_until_the_log_begins_after(cluster: Cluster, offset: int) -> None:
    """Set quotas until no voter that runs can show what follows this offset: all have deleted the snapshots before."""
    number = 0

    def begins_later() -> bool:
        nonlocal number
        number += 1
        leader = cluster.node(cluster.quorum().leader)
        entries = [
            {
                "entity": [{"entity_type": "client-id", "entity_name": f"client-{number}-{each}"}],
                "ops": [{"key": "producer_byte_rate", "value": 1e6, "remove": False}],
            }
            for each in range(50)
        ]
        answer = ask(
            leader.place.controller_address, ApiKey.ALTER_CLIENT_QUOTAS, 1, entries=entries, validate_only=False
        )
        if answer is None:
            raise NotNow(f"{leader} sets no quotas")
        assert not any(each.error_code for each in answer.entries), answer
        running = (node for node in cluster.controllers if node.running)
        return all(min(snapshots(node), default=(0, 0))[0] > offset for node in running)

    cluster.wait_until(begins_later, f"the log begins after {offset}")


def begins_with_a_snapshot(node: Node, ended: int) -> bool:
    """Whether its log, which had ended there, begins later, and what is before that is in a snapshot.

    It ends where the log begins, or later: the node may have made another since, and deleted the one it was given.
    """
    return ended < min(epochs(node)) <= snapshots(node)[0][0]


def die_with_a_tail(cluster: Cluster, leader: Node) -> dict[int, int]:
    """kill -9 of a leader that has appended what no other voter has got; the batches of its log, and their epochs.

    The others are frozen meanwhile. What each had asked for is answered with the first of these batches, and not with
    those that follow.
    """
    others = [node for node in cluster.controllers if node is not leader]
    before = max(epochs(leader))
    for node in others:
        node.freeze()
    for number in range(6):
        ask_for_a_topic(leader, f"lost-{before}-{number}")
    leader.kill()
    for node in others:
        node.thaw()
    return epochs(leader)


def ask_for_a_topic(leader: Node, name: str) -> None:
    """Have a leader append it, who can't commit and answer."""
    wire = Wire(leader.place.controller_address, limit_s=0.15)
    topic = {"name": name, "num_partitions": 1, "replication_factor": 1}
    with suppress(TimeoutError):
        wire.ask(ApiKey.CREATE_TOPICS, 7, {"topics": [topic], "timeout_ms": 10_000})
    wire.close()


def parted(tail: dict[int, int], leader: Node) -> bool:
    """Whether a log with these batches has some that the leader's has not."""
    return max(tail) not in (now := epochs(leader)) or now[max(tail)] != tail[max(tail)]


def _leader(cluster: Cluster) -> int | None:
    try:
        quorum = cluster.quorum()
    except (NotNow, OSError):
        return None
    return quorum.leader if quorum.high_watermark >= 0 else None


def _caught_up(cluster: Cluster) -> bool:
    """All voters run, and have what is committed."""
    assert not (ended := gone(cluster.controllers)), ended
    try:
        quorum = cluster.quorum()
    except (NotNow, OSError):
        return False
    return len(quorum.voters) == 3 and all(quorum.ends[each] >= quorum.high_watermark for each in quorum.voters)
