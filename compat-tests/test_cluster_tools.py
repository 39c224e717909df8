"""Apache Kafka's command-line tools against a cluster of three nodes: they print what they print of Kafka's own.

The transcripts are in answers/tools-*.txt; with --broker=kafka --rewrite-answers they are written anew.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from harness import kafka_jars
from harness.cluster import metadata_files
from harness.cluster.cluster import METADATA_TOPIC, Cluster, combined
from harness.cluster.load import CLIENT
from harness.cluster.metadata_shown import in_every_cluster, record_shapes, shell_tree
from harness.cluster.transcript import BROKERS, CONTROLLERS, Transcript, plan
from harness.dump_log import flaws
from harness.java_clients import eventually
from harness.java_tools import (
    CLUSTER,
    CONFIGS,
    FEATURES,
    LEADER_ELECTION,
    METADATA_QUORUM,
    REASSIGN_PARTITIONS,
    REPLICA_VERIFICATION,
    TOPICS,
    ToolHost,
)

NODES = [1, 2, 3]
ANSWERS = Path(__file__).parent / "answers"
SETTINGS = {
    "auto.leader.rebalance.enable": "false",  # leaders stay where a test has brought them
    "metadata.log.max.record.bytes.between.snapshots": "2000",
}


@pytest.fixture(scope="module")
def _cluster(cluster_kind: str, tools: ToolHost, folder: Path) -> Iterator[Cluster]:  # noqa: ARG001
    with Cluster(folder / "tools-cluster", combined(cluster_kind), settings=SETTINGS) as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: Cluster) -> Cluster:
    """All of it up, whatever a test before has left."""
    _cluster.start()
    return _cluster


@pytest.fixture
def transcript(tools: ToolHost, cluster: Cluster, request: pytest.FixtureRequest) -> Transcript:
    """What a test lets the tools say; in the end it checks that Apache Kafka's cluster gave the same, in answers/."""
    name = re.sub(r"[_\[]", "-", request.node.name.removeprefix("test_")).rstrip("]")
    path = ANSWERS / f"tools-{name}.txt"
    return Transcript(tools, cluster, path, request.config.getoption("--rewrite-answers"))


def led_by(cluster: Cluster, topic: str, leaders: list[int], out_of_sync: int | None = None) -> None:
    """Wait until every broker that runs knows these leaders, and that this one is in no ISR."""

    def known() -> bool:
        for node in cluster.brokers:
            found = cluster.partitions(topic, node) if node.running else []
            if node.running and [each.leader for each in found] != leaders:
                return False
            if any(out_of_sync in each.isr and each.leader >= 0 for each in found):
                return False
        return True

    cluster.wait_until(known, f"{topic} is led by {leaders}")


def whose_rows(leader: int, down: int | None = None) -> Callable[[str], str]:
    """Makes of the table of replicas one that is the same whoever leads: the leader, who is up, who is down."""
    roles = {str(leader): "LEADER", str(down): "DOWN"}

    def masked(text: str) -> str:
        header, *lines = text.splitlines()
        rows = []
        for line in lines:
            node_id, directory_id, *numbers, status = (cell.strip() for cell in line.split("\t"))
            assert len(directory_id) == 22
            numbers = [re.sub(r"^\d+", "N", each).replace("N ms ago", "N") for each in numbers]
            rows.append("\t".join((roles.get(node_id, "UP"), "ID", *numbers, status)))
        return "".join(f"{each}\n" for each in (header, *sorted(rows)))

    return masked


@pytest.mark.parametrize("of", [BROKERS, CONTROLLERS], ids=["brokers", "controllers"])
def test_metadata_quorum(transcript: Transcript, cluster: Cluster, of: str) -> None:
    rows = whose_rows(cluster.quorum().leader)
    transcript.run(METADATA_QUORUM, "describe", "--status", of=of)
    transcript.run(METADATA_QUORUM, "describe", "--replication", of=of, masked=rows)
    transcript.run(METADATA_QUORUM, "describe", "--replication", "--human-readable", of=of, masked=rows)
    stranger = ("--controller-id", "9", "--controller-directory-id", "AAAAAAAAAAAAAAAAAAAAAQ")
    transcript.run(METADATA_QUORUM, "remove-controller", *stranger, of=of)
    transcript.run(METADATA_QUORUM, "remove-controller", *stranger, "--dry-run", of=of)
    transcript.check()


@pytest.mark.parametrize("of", [BROKERS, CONTROLLERS], ids=["brokers", "controllers"])
def test_features(transcript: Transcript, of: str) -> None:
    """Nothing is changed in the end: of the features of a cluster most can't be taken back."""
    transcript.run(FEATURES, "describe", of=of)
    transcript.run(FEATURES, "describe", "--node-id", "2", of=of)
    for change in (
        ("upgrade", "--release-version", "4.3-IV0", "--dry-run"),
        ("upgrade", "--metadata", "4.3-IV0"),
        ("upgrade", "--feature", "transaction.version=2", "--feature", "group.version=1", "--dry-run"),
        ("upgrade", "--feature", "kraft.version=1"),
        ("upgrade", "--feature", "group.version=99"),
        ("upgrade", "--feature", "no.such.feature=1"),
        ("downgrade", "--feature", "transaction.version=1", "--dry-run"),
        ("downgrade", "--feature", "kraft.version=0"),
        ("downgrade", "--metadata", "3.9-IV0", "--dry-run"),
        ("downgrade", "--release-version", "4.0-IV3", "--dry-run"),
        ("disable", "--feature", "group.version", "--dry-run"),
        ("disable", "--feature", "eligible.leader.replicas.version", "--unsafe", "--dry-run"),
        ("downgrade", "--feature", "transaction.version=1"),
        ("upgrade", "--feature", "transaction.version=2"),
    ):
        transcript.run(FEATURES, *change, of=of)
    transcript.run(FEATURES, "describe", of=of)
    transcript.check()


def test_cluster(transcript: Transcript) -> None:
    for of in (BROKERS, CONTROLLERS):
        transcript.run(CLUSTER, "cluster-id", of=of)
        transcript.run(CLUSTER, "list-endpoints", of=of)
        transcript.run(CLUSTER, "list-endpoints", "--include-fenced-brokers", of=of)
        transcript.run(CLUSTER, "unregister", "--id", "9", of=of)
    transcript.check()


FILTERS = (
    "--under-replicated-partitions",
    "--under-min-isr-partitions",
    "--at-min-isr-partitions",
    "--unavailable-partitions",
)


def describe(transcript: Transcript, pattern: str) -> None:
    """kafka-topics --describe, whole, and with each filter."""
    transcript.run(TOPICS, "--describe", "--topic", pattern)
    for each in FILTERS:
        transcript.run(TOPICS, "--describe", "--topic", pattern, each)


def test_topics(transcript: Transcript, cluster: Cluster) -> None:
    """All is well."""
    cluster.create_assigned_topic("well-1", [(1, 2, 3), (2, 3, 1), (3, 1, 2)])
    cluster.create_assigned_topic("well-2", [(1, 2), (2, 3)], min_insync_replicas="1", retention_ms="1000000")
    describe(transcript, "well-.*")
    transcript.run(TOPICS, "--describe", "--topic", "well-.*", "--topics-with-overrides")
    transcript.run(TOPICS, "--describe", "--topic", "well-1", "--partition-size-limit-per-response", "2")
    transcript.run(TOPICS, "--describe", "--topic", "nowhere")
    transcript.run(TOPICS, "--describe", "--topic", "nowhere", "--if-exists")
    transcript.run(TOPICS, "--create", "--topic", "wide", "--partitions", "1", "--replication-factor", "4")
    transcript.run(TOPICS, "--create", "--topic", "odd", "--replica-assignment", "1:2,2:9")
    transcript.run(
        TOPICS, "--alter", "--topic", "well-2", "--partitions", "4", "--replica-assignment", "1:2,2:3,3:1,1:3"
    )
    led_by(cluster, "well-2", [1, 2, 3, 1])
    transcript.run(TOPICS, "--describe", "--topic", "well-2")
    transcript.check()


def test_reassign_partitions_with_a_throttle(transcript: Transcript, cluster: Cluster, tmp_path: Path) -> None:
    """A move so slow that it is seen, cancelled, made again, hastened and completed; the data goes with it."""
    topic = "moved"
    cluster.create_assigned_topic(topic, [(1, 2), (2, 1)], min_insync_replicas="1")
    producer = Producer({"bootstrap.servers": cluster.address, "acks": "all", **CLIENT})
    for _ in range(6000):
        producer.produce(topic, b"v" * 1000, partition=0)
    assert producer.flush(60) == 0
    path = plan(tmp_path / "plan.json", {(topic, 0): [2, 3]})
    other = plan(tmp_path / "other.json", {(topic, 1): [3, 1]})
    wrong = plan(tmp_path / "wrong.json", {(topic, 0): [2, 9]})
    nowhere = plan(tmp_path / "nowhere.json", {("nowhere", 0): [1, 2], (topic, 1): [2, 1]})
    topics = tmp_path / "topics.json"
    topics.write_text(json.dumps({"version": 1, "topics": [{"topic": topic}]}))
    shown = tuple((str(each), each.name) for each in (path, other, wrong, nowhere, topics))

    def reassign(*arguments: str, **keywords: Callable[[str], str]) -> None:
        transcript.run(REASSIGN_PARTITIONS, *arguments, shown=shown, **keywords)

    def configs() -> None:
        transcript.run(CONFIGS, "--describe", "--topic", topic)
        for node_id in NODES:
            transcript.run(CONFIGS, "--describe", "--broker", str(node_id))

    how = ("--reassignment-json-file", str(path))
    reassign("--list")
    reassign(
        "--generate", "--topics-to-move-json-file", str(topics), "--broker-list", "1,2,3", masked=without_the_proposal
    )
    reassign("--reassignment-json-file", str(wrong), "--execute")
    reassign("--reassignment-json-file", str(nowhere), "--execute")
    reassign("--reassignment-json-file", str(nowhere), "--verify")
    reassign(*how, "--verify")
    reassign(*how, "--throttle", "1000", "--execute")
    transcript.run(TOPICS, "--describe", "--topic", topic)
    for each in FILTERS:
        transcript.run(TOPICS, "--describe", "--topic", topic, each)
    reassign("--list")
    reassign(*how, "--verify")
    configs()
    reassign("--reassignment-json-file", str(other), "--execute")
    reassign(*how, "--throttle", "2000", "--execute", "--additional")
    reassign(*how, "--cancel", "--preserve-throttles")
    configs()
    reassign("--list")
    cluster.wait_until(lambda: set(cluster.partitions(topic)[0].replicas) == {1, 2}, "the move is undone")
    reassign(*how, "--cancel")
    reassign(*how, "--throttle", "1000", "--execute")
    reassign(*how, "--throttle", "100000000", "--execute", "--additional")
    cluster.wait_until(lambda: set(cluster.partitions(topic)[0].replicas) == {2, 3}, "the replica has moved")
    led_by(cluster, topic, [2, 2])
    reassign(*how, "--verify")
    configs()
    reassign("--list")
    transcript.run(TOPICS, "--describe", "--topic", topic)
    cluster.wait_until(lambda: not list(cluster.node(1).data_dir.glob(f"{topic}-0")), "the old replica is gone")
    transcript.check()


def without_the_proposal(text: str) -> str:
    """Which replicas the tool proposes is its own chance."""
    return re.sub(r"(?s)(Proposed partition reassignment configuration\n).*", r"\1...\n", text)


def test_a_node_stops(transcript: Transcript, cluster: Cluster, tmp_path: Path) -> None:
    """Node 3 stops in order, is unregistered, comes back; the preferred leaders are elected."""
    led_by_another(cluster, 3)
    cluster.create_assigned_topic("down-three", [(1, 2, 3), (2, 3, 1), (3, 1, 2)])
    cluster.create_assigned_topic("down-all-needed", [(3, 2, 1)], min_insync_replicas="3")
    cluster.create_assigned_topic("down-two", [(1, 2), (2, 3), (3, 1)], min_insync_replicas="1")
    cluster.create_assigned_topic("down-two-needed", [(2, 3), (3, 2)])
    cluster.create_assigned_topic("down-one", [(1,), (2,), (3,)], min_insync_replicas="1")
    pattern = "down-.*"
    elected = plan(tmp_path / "elected.json", {("down-three", 2): [], ("down-three", 0): []})
    moved = plan(tmp_path / "moved.json", {("down-one", 0): [3]})
    shown = tuple((str(each), each.name) for each in (elected, moved))
    describe(transcript, pattern)

    transcript.note("node 3 has stopped")
    cluster.node(3).stop()
    led_by(cluster, "down-three", [1, 2, 1], out_of_sync=3)
    led_by(cluster, "down-one", [1, 2, -1])
    quorum = cluster.quorum()
    describe(transcript, pattern)
    transcript.run(METADATA_QUORUM, "describe", "--status")
    transcript.run(METADATA_QUORUM, "describe", "--replication", masked=whose_rows(quorum.leader, 3))
    for of in (BROKERS, CONTROLLERS):
        transcript.run(CLUSTER, "list-endpoints", of=of)
    transcript.run(CLUSTER, "list-endpoints", "--include-fenced-brokers")
    transcript.run(FEATURES, "describe")
    one = ("--election-type", "preferred", "--topic", "down-three", "--partition")
    transcript.run(LEADER_ELECTION, *one, "2")
    transcript.run(LEADER_ELECTION, *one, "1")
    of_file = ("--path-to-json-file", str(elected))
    transcript.run(LEADER_ELECTION, "--election-type", "preferred", *of_file, shown=shown)
    unclean = ("--election-type", "unclean", "--topic")
    transcript.run(LEADER_ELECTION, *unclean, "down-one", "--partition", "2")
    transcript.run(LEADER_ELECTION, *unclean, "down-two", "--partition", "2")
    transcript.run(LEADER_ELECTION, *unclean, "nowhere", "--partition", "0")
    transcript.run(REASSIGN_PARTITIONS, "--reassignment-json-file", str(moved), "--execute", shown=shown)
    transcript.run(TOPICS, "--create", "--topic", "too-wide", "--partitions", "1", "--replication-factor", "3")

    transcript.note("and is unregistered")
    transcript.run(CLUSTER, "unregister", "--id", "3")
    transcript.run(CLUSTER, "unregister", "--id", "3")
    transcript.run(CLUSTER, "list-endpoints", "--include-fenced-brokers")
    describe(transcript, pattern)

    transcript.note("and is back")
    cluster.start()
    led_by(cluster, "down-one", [1, 2, 3])
    describe(transcript, pattern)
    transcript.run(CLUSTER, "list-endpoints", "--include-fenced-brokers")
    transcript.run(LEADER_ELECTION, "--election-type", "preferred", *of_file, shown=shown)
    transcript.run(LEADER_ELECTION, *one, "2")
    transcript.run(LEADER_ELECTION, "--election-type", "preferred", "--all-topic-partitions", masked=sorted_elected)
    led_by(cluster, "down-three", [1, 2, 3])
    transcript.run(TOPICS, "--describe", "--topic", pattern)
    transcript.check()


def sorted_elected(text: str) -> str:
    """Partitions of these topics, in their order: the tool names them in no order, and others' are among them."""
    found = re.findall(r"(?m)^(.*for partitions )(.*)$", text)
    return "".join(f"{words}{', '.join(sorted(re.findall(r'down-[a-z-]+-[0-9]', each)))}\n" for words, each in found)


def led_by_another(cluster: Cluster, node_id: int) -> None:
    """See to it that this node isn't the quorum's leader."""
    if cluster.quorum().leader == node_id:
        cluster.node(node_id).stop()
        cluster.start()


def test_the_quorum_leader_stops(transcript: Transcript, cluster: Cluster) -> None:
    """The new leader has heard nothing of the old one yet."""
    former = cluster.quorum().leader
    cluster.node(former).stop()
    cluster.wait_until(lambda: cluster.quorum().leader != former, "another node leads")
    rows = whose_rows(cluster.quorum().leader, former)
    for of in (BROKERS, CONTROLLERS):
        transcript.run(METADATA_QUORUM, "describe", "--status", of=of)
        transcript.run(METADATA_QUORUM, "describe", "--replication", of=of, masked=rows)
    transcript.check()


def test_unclean_leader_election(transcript: Transcript, cluster: Cluster) -> None:
    """Node 3 stops, then node 2 dies, then node 3 is back: who may lead, and who does when it is asked for."""
    cluster.create_assigned_topic("last-alive", [(2, 3), (3, 2)], min_insync_replicas="1")
    cluster.create_assigned_topic("last-eligible", [(2, 3), (3, 2)])
    cluster.create_assigned_topic("last-one", [(2,)], min_insync_replicas="1")
    cluster.node(3).stop()
    led_by(cluster, "last-alive", [2, 2], out_of_sync=3)
    led_by(cluster, "last-eligible", [2, 2], out_of_sync=3)
    describe(transcript, "last-.*")
    transcript.note("node 2 has died, node 3 is back")
    cluster.node(2).kill()
    cluster.node(3).launch()
    led_by(cluster, "last-alive", [-1, -1])
    led_by(cluster, "last-eligible", [3, 3])
    led_by(cluster, "last-one", [-1])
    describe(transcript, "last-.*")
    for kind in ("preferred", "unclean"):
        for topic, index in (("last-alive", "0"), ("last-one", "0"), ("last-eligible", "1")):
            which = ("--topic", topic, "--partition", index)
            transcript.run(LEADER_ELECTION, "--election-type", kind, *which)
    led_by(cluster, "last-alive", [3, -1])
    describe(transcript, "last-.*")
    transcript.note("node 2 is back")
    cluster.start()
    led_by(cluster, "last-one", [2])
    describe(transcript, "last-.*")
    transcript.check()


@pytest.mark.usefixtures("java")
def test_replica_verification(cluster: Cluster) -> None:
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


def test_dump_log_and_metadata_shell(
    cluster: Cluster, tools: ToolHost, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Kafka's own readers on each node's metadata log and snapshots. Last: the cluster stops.

    There are the records of Apache Kafka's log, in their versions, and what they come to is what it comes to there; a
    snapshot is what the log comes to until then.
    """
    cluster.create_topic("in-the-shell", retention_ms="1000000")
    cluster.stop()
    for node in cluster.nodes:
        assert flaws(tools, node.data_dir) == []
    copy = tmp_path / METADATA_TOPIC
    shutil.copytree(cluster.node(1).data_dir / f"{METADATA_TOPIC}-0", copy)
    (log,) = copy.glob("*.log")
    _, *snapshots = sorted(copy.glob("*.checkpoint"))  # the first is that of formatting
    shapes = record_shapes(tools, [log, *snapshots])
    path = ANSWERS / "tools-metadata.json"
    if request.config.getoption("--rewrite-answers"):
        assert {node.kind for node in cluster.nodes} == {"kafka"}, "the answers are Apache Kafka's"
        take_down(path, shapes, log)
    expected = json.loads(path.read_text())
    eventually(lambda: comparable(shell_tree(log)) ^ set(expected["tree"]), set())
    for kind, fields in shapes.items():
        assert set(fields) <= set(expected["records"].get(kind, [])), kind
    assert "REGISTER_BROKER_RECORD 4" in shapes
    end = max(int(each.name[:20]) for each in snapshots)
    until_then = copy / "until-then" / log.name
    until_then.parent.mkdir()
    batches = metadata_files.batches(cluster.node(1))
    until_then.write_bytes(b"".join(batch for offset, batch in batches.items() if offset < end))
    assert differently_shown(max(snapshots), until_then) == set()


def take_down(path: Path, shapes: dict[str, list[str]], log: Path) -> None:
    """Which fields a snapshot has is up to when it was taken: what another run has shown is kept."""
    tree: set[str] = set()
    while not any("in-the-shell" in each for each in tree):
        tree = comparable(shell_tree(log))
    known = json.loads(path.read_text())["records"]
    both = {kind: sorted({*known.get(kind, []), *shapes.get(kind, [])}) for kind in sorted({*known, *shapes})}
    path.write_text(json.dumps({"records": both, "tree": sorted(tree)}, indent=1) + "\n")


def differently_shown(snapshot: Path, log: Path) -> set[str]:
    """The lines that the shell shows of one alone, each time."""
    for _ in range(5):
        if not (different := shell_tree(snapshot) ^ shell_tree(log)):
            break
    return different


def comparable(tree: set[str]) -> set[str]:
    """What is so in Apache Kafka's cluster too; without the topics of other tests, whichever of those have run."""
    topic = re.compile(r"(?:topics/by\w+/|configs/TOPIC:)(?!in-the-shell)")
    return {each for each in in_every_cluster(tree) if not topic.match(each)}
