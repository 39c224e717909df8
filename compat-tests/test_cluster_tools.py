"""Apache Kafka's command-line tools against a cluster of three nodes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from harness import kafka_jars
from harness.cluster.cluster import METADATA_TOPIC, Cluster, combined
from harness.cluster.load import CLIENT
from harness.dump_log import flaws
from harness.java_clients import eventually
from harness.java_tools import (
    CLUSTER,
    FEATURES,
    LEADER_ELECTION,
    METADATA_QUORUM,
    METADATA_SHELL,
    REASSIGN_PARTITIONS,
    REPLICA_VERIFICATION,
    TOPICS,
    ToolHost,
    Tools,
)

NODES = [1, 2, 3]


@pytest.fixture(scope="module")
def _cluster(cluster_kind: str, tools: ToolHost, folder: Path) -> Iterator[Cluster]:  # noqa: ARG001
    with Cluster(folder / "tools-cluster", combined(cluster_kind)) as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: Cluster) -> Cluster:
    """All of it up, whatever a test before has left."""
    _cluster.start()
    return _cluster


@pytest.fixture
def kafka(tools: ToolHost, cluster: Cluster) -> Tools:
    """Kafka's tools, each told of the cluster."""
    return Tools(tools, cluster.address)


def of_controllers(tools: ToolHost, cluster: Cluster, main: str, *arguments: str) -> str:
    """What a tool writes that asks the controllers' own listeners."""
    result = tools.run(main, "--bootstrap-controller", cluster.controller_address, *arguments)
    assert result.code == 0, f"{result.out}\n{result.err}"
    return result.out


@pytest.mark.parametrize("controllers", [False, True], ids=["brokers", "controllers"])
def test_metadata_quorum(kafka: Tools, tools: ToolHost, cluster: Cluster, controllers: bool) -> None:
    def ask(*arguments: str) -> str:
        if controllers:
            return of_controllers(tools, cluster, METADATA_QUORUM, *arguments)
        return kafka.out(METADATA_QUORUM, *arguments)

    status = dict(line.split(":", 1) for line in ask("describe", "--status").splitlines())
    quorum = cluster.quorum()
    assert (status["ClusterId"].strip(), int(status["LeaderId"])) == (cluster.cluster_id, quorum.leader)
    assert int(status["LeaderEpoch"]) == quorum.epoch
    voters = json.loads(status["CurrentVoters"])
    assert sorted(each["id"] for each in voters) == NODES
    endpoints = {each["id"]: each["endpoints"] for each in voters}
    assert endpoints == {
        node.node_id: [f"CONTROLLER://{node.place.controller_address}"] for node in cluster.controllers
    }
    assert json.loads(status["CurrentObservers"]) == []
    header, *rows = ask("describe", "--replication").splitlines()
    assert header.split()[:4] == ["NodeId", "DirectoryId", "LogEndOffset", "Lag"]
    assert sorted((int(row.split()[0]), row.split()[-1]) for row in rows) == [
        (node_id, "Leader" if node_id == quorum.leader else "Follower") for node_id in NODES
    ]
    assert all(len(row.split()[1]) == 22 and int(row.split()[3]) < 20 for row in rows)


def test_features(kafka: Tools, tools: ToolHost, cluster: Cluster) -> None:
    for out in (kafka.out(FEATURES, "describe"), of_controllers(tools, cluster, FEATURES, "describe")):
        rows = re.findall(r"^Feature: (\S+)\s.*FinalizedVersionLevel: (\S+)\s", out, re.MULTILINE)
        assert dict(rows)["metadata.version"] == "4.3-IV0"
        assert dict(rows)["kraft.version"] == "1"


def test_cluster_id_and_endpoints(kafka: Tools, tools: ToolHost, cluster: Cluster) -> None:
    assert kafka.last(CLUSTER, "cluster-id") == f"Cluster ID: {cluster.cluster_id}\n"
    rows = [line.split() for line in kafka.last(CLUSTER, "list-endpoints").splitlines()[1:]]
    assert sorted((int(row[0]), f"{row[1]}:{row[2]}", *row[4:]) for row in rows) == [
        (node.node_id, node.place.address, "unfenced", "broker") for node in cluster.brokers
    ]
    result = tools.run(CLUSTER, "list-endpoints", "--bootstrap-controller", cluster.controller_address)
    rows = [line.split() for line in result.out.splitlines()[1:]]
    assert sorted((int(row[0]), f"{row[1]}:{row[2]}", row[-1]) for row in rows) == [
        (node.node_id, node.place.controller_address, "controller") for node in cluster.controllers
    ]


def described(kafka: Tools, *arguments: str) -> set[str]:
    """The partitions that kafka-topics --describe lists, of the topics of these tests."""
    out = kafka.out(TOPICS, "--describe", *arguments)
    return {f"{topic}-{index}" for topic, index in re.findall(r"Topic: (down\S*)\s+Partition: (\d+)", out)}


def test_topics_while_a_node_is_down(kafka: Tools, cluster: Cluster) -> None:
    """Which partitions lack replicas, are at their minimum, or have no leader; and nothing once the node is back."""
    filters = ("--under-replicated-partitions", "--at-min-isr-partitions", "--unavailable-partitions")
    cluster.create_assigned_topic("down-three", [(1, 2, 3), (2, 3, 1)])
    cluster.create_assigned_topic("down-two", [(1, 2), (2, 3)], min_insync_replicas="1")
    cluster.create_assigned_topic("down-one", [(1,), (2,), (3,)], min_insync_replicas="1")
    at_min = {"down-one-0", "down-one-1", "down-one-2"}
    assert [described(kafka, each) for each in filters] == [set(), at_min, set()]
    cluster.node(3).kill()

    def expected(found: list[set[str]]) -> bool:
        return found == [
            {"down-three-0", "down-three-1", "down-two-1", "down-one-2"},
            {"down-three-0", "down-three-1", "down-two-1", "down-one-0", "down-one-1"},
            {"down-one-2"},
        ]

    found: list[set[str]] = []
    deadline_s = time.monotonic() + 30
    while not expected(found) and time.monotonic() < deadline_s:
        found = [described(kafka, each) for each in filters]
    assert expected(found), found
    cluster.start()
    assert [described(kafka, each) for each in filters] == [set(), at_min, set()]


def test_leader_election(kafka: Tools, cluster: Cluster) -> None:
    """A leader that stops hands over; the preferred one leads again when it is elected."""
    cluster.create_assigned_topic("elected", [(2, 3, 1), (3, 1, 2)])
    cluster.node(2).stop()
    assert cluster.leader("elected", 0) in (1, 3)
    cluster.start()
    one = ("--election-type", "preferred", "--topic", "elected", "--partition", "0")
    done = "Successfully completed leader election (PREFERRED) for partitions elected-0\n"
    assert kafka.out(LEADER_ELECTION, *one) == done
    cluster.wait_until(lambda: cluster.leader("elected", 0) == 2, "the preferred leader leads")


def test_reassign_partitions_with_a_throttle(kafka: Tools, cluster: Cluster, tmp_path: Path) -> None:
    """A partition moves to another node, its data with it; the throttle is set, and taken away at the end."""
    topic = "moved"
    cluster.create_assigned_topic(topic, [(1, 2)])
    producer = Producer({"bootstrap.servers": cluster.address, "acks": "all", **CLIENT})
    for _ in range(1000):
        producer.produce(topic, b"v" * 1000, partition=0)
    assert producer.flush(60) == 0
    plan = tmp_path / "plan.json"
    row = {"topic": topic, "partition": 0, "replicas": [2, 3], "log_dirs": ["any", "any"]}
    plan.write_text(json.dumps({"version": 1, "partitions": [row]}))
    how = ("--reassignment-json-file", str(plan))
    executed = kafka.out(REASSIGN_PARTITIONS, *how, "--throttle", "50000000", "--execute")
    assert "The inter-broker throttle limit was set to 50000000 B/s" in executed
    assert f"Successfully started partition reassignment for {topic}-0" in executed

    def completed() -> bool:
        return f"Reassignment of partition {topic}-0 is completed." in kafka.out(REASSIGN_PARTITIONS, *how, "--verify")

    eventually(completed, True, 60)
    verified = kafka.out(REASSIGN_PARTITIONS, *how, "--verify")
    assert f"Clearing topic-level throttles on topic {topic}" in verified
    cluster.wait_until(lambda: set(cluster.partitions(topic)[0].isr) == {2, 3}, "the new replicas are in sync")
    assert kafka.out(REASSIGN_PARTITIONS, "--list") == "No partition reassignments found.\n"
    cluster.wait_until(lambda: not list(cluster.node(1).data_dir.glob(f"{topic}-0")), "the old replica is gone")


def test_replica_verification(kafka: Tools, cluster: Cluster) -> None:  # noqa: ARG001
    """The tool reads every replica and compares their records."""
    topic = "compared"
    cluster.create_topic(topic)
    producer = Producer({"bootstrap.servers": cluster.address, "acks": "all", **CLIENT})
    for number in range(300):
        producer.produce(topic, b"%d" % number, partition=number % 3)
    assert producer.flush(60) == 0
    where = ("--broker-list", cluster.address, "--topics-include", topic, "--report-interval-ms", "200")
    command = kafka_jars.java(REPLICA_VERIFICATION, *where)
    tool = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    too_long = threading.Timer(60, tool.kill)
    too_long.start()
    assert tool.stdout is not None
    with tool.stdout:
        said = []
        for line in tool.stdout:
            said.append(line)
            if "max lag is" in line:
                break
        tool.terminate()
        tool.stdout.read()
    tool.wait(60)
    too_long.cancel()
    assert re.search(rf"max lag is 0 for partition {topic}-\d at offset 100 among 3 partitions$", said[-1].strip()), (
        said
    )


def test_dump_log_and_metadata_shell(cluster: Cluster, tools: ToolHost, tmp_path: Path) -> None:
    """Kafka's own readers on each node's metadata log, and its snapshots, if there are any. Last: the cluster stops."""
    cluster.create_topic("in-the-shell")
    cluster.stop()
    for node in cluster.nodes:
        assert flaws(tools, node.data_dir) == []
    for node in cluster.nodes:
        copy = tmp_path / f"{METADATA_TOPIC}-{node.node_id}"
        shutil.copytree(node.data_dir / f"{METADATA_TOPIC}-0", copy)
        for log in [*sorted(copy.glob("*.log")), *sorted(copy.glob("*.checkpoint"))[1:]]:
            in_shell(tools, log, "/image/cluster", [f"{node_id}:" for node_id in NODES])
            in_shell(tools, log, "/image/topics", ["in-the-shell"])


def in_shell(tools: ToolHost, log: Path, what: str, expected: list[str]) -> None:
    """What the shell shows of a file; now and then it shows what it has before it has read all of it."""

    def shown() -> bool:
        result = tools.run(METADATA_SHELL, "--snapshot", str(log), "tree", what)
        assert result.code == 0, f"{result.out}\n{result.err}"
        return all(each in result.out for each in expected)

    eventually(shown, True)
