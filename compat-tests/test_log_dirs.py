"""Several data folders: Kafka's answers, its tools that move replicas, and each broker on the folders of the other.

A broker of its own with three folders, of the kind under test. The answers are in answers/three-folders.jsonl, one line
a chapter; with --broker=kafka --rewrite-answers they are written anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.brokers import SOON_FENCED, ApacheKafka, BrokerUnderTest, ChildBroker, Kpybroker, read_properties
from harness.java_clients import eventually
from harness.java_tools import LOG_DIRS, REASSIGN_PARTITIONS, ToolHost, Tools
from harness.versions.log_cases import batch, fetch, produce
from harness.versions.world import Answer, World, differences

from kpybroker.wire.api_keys import ApiKey

ANSWERS = Path(__file__).parent / "answers" / "three-folders.jsonl"
NAMES = ("a", "b", "c")
KINDS: dict[str, type[ChildBroker]] = {"kpybroker": Kpybroker, "kafka": ApacheKafka}
OFTEN = {"log.flush.offset.checkpoint.interval.ms": "500"}
"""So that it is soon noticed when a folder has gone."""


def make(kind: str, folder: Path, root: Path, names: tuple[str, ...] = NAMES) -> ChildBroker:
    """A broker whose data folders have these names; the metadata log is in the first."""
    dirs = ",".join(str(root / name) for name in names)
    return KINDS[kind](folder, data_dir=root / names[0], settings={"log.dirs": dirs, **OFTEN, **SOON_FENCED})


@pytest.fixture
def three(broker: BrokerUnderTest, tmp_path: Path) -> Iterator[ChildBroker]:
    """A broker of the kind under test with three folders."""
    if broker.kind not in KINDS:
        pytest.skip("makes a broker of its own: not of the kind of an outside one")
    made = make(broker.kind, tmp_path / "broker", tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def story(three: ChildBroker) -> Iterator[Story]:
    story = Story(three)
    yield story
    story.world.close()
    for other in story.others:
        other.kill()


class Story:
    """A broker with three folders, and what is asked of it. Answers show a folder as <a>, <b> or <c>."""

    def __init__(self, broker: ChildBroker) -> None:
        self.broker = broker
        self.root = broker.data_dir.parent
        self.world = World(broker.address)
        self.others: list[ChildBroker] = []

    def path(self, name: str) -> str:
        return str(self.root / name)

    def restart(self) -> None:
        self.world.close()
        self.broker.stop()
        self.broker.start()

    def move(self, *moves: tuple[str, str, list[int]]) -> Answer:
        dirs = [
            {"path": path if "/" in path else self.path(path), "topics": [{"name": topic, "partitions": indexes}]}
            for path, topic, indexes in moves
        ]
        return self.world.ask(ApiKey.ALTER_REPLICA_LOG_DIRS, 2, dirs=dirs)

    def topic(self, what: str, *homes: str, **configs: str) -> str:
        """A topic with a partition in each of these folders, ten records in each."""
        name = self.world.name(what)
        self.move(*((home, name, [index]) for index, home in enumerate(homes)))
        assert self.world.topic(what, len(homes), **configs) == name
        for index in range(len(homes)):
            produce(self.world, 9, name, (index, batch(10)))
        return name

    def describe(self, *topics: str) -> Answer:
        """What DescribeLogDirs says, with the folders' names, and what is large left out."""
        asked = [{"topic": topic, "partitions": [0, 1, 2, 3]} for topic in topics]
        response = self.world.raw(ApiKey.DESCRIBE_LOG_DIRS, 5, topics=asked)
        described = {}
        for each in response.results:
            described[Path(each.log_dir).name] = {
                "error": each.error_code,
                "sizes": (each.total_bytes > 0, each.usable_bytes > 0),
                "cordoned": each.is_cordoned,
                "partitions": sorted(
                    [
                        self.world.normal(topic.name),
                        partition.partition_index,
                        partition.partition_size,
                        partition.offset_lag,
                        partition.is_future_key,
                    ]
                    for topic in each.topics
                    for partition in topic.partitions
                ),
            }
        return described

    def homes(self, topic: str) -> dict[int, list[str]]:
        """The folders that have each partition, future ones with an exclamation mark."""
        response = self.world.raw(ApiKey.DESCRIBE_LOG_DIRS, 4, topics=None)
        homes: dict[int, list[str]] = {}
        for each in response.results:
            for found in (found for found in each.topics if found.name == topic):
                for partition in found.partitions:
                    mark = "!" if partition.is_future_key else ""
                    homes.setdefault(partition.partition_index, []).append(Path(each.log_dir).name + mark)
        return homes

    def metadata(self, topic: str) -> Answer:
        asked = [{"topic_id": bytes(16), "name": topic}]
        response: Any = self.world.ask(ApiKey.METADATA, 12, topics=asked, allow_auto_topic_creation=False)
        return response["topics"]

    def ends(self, topic: str, count: int) -> Answer:
        asked = [{"partition_index": index, "timestamp": -1, "current_leader_epoch": -1} for index in range(count)]
        return self.world.ask(ApiKey.LIST_OFFSETS, 7, replica_id=-1, topics=[{"name": topic, "partitions": asked}])

    def everything(self, topic: str, count: int) -> Answer:
        """What a client hears of each partition."""
        epochs = [{"partition": index, "current_leader_epoch": -1, "leader_epoch": 0} for index in range(count)]
        deletions = [{"partition_index": index, "offset": 2} for index in range(count)]
        ask = self.world.ask
        return {
            "metadata": self.metadata(topic),
            "described": ask(
                ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, topics=[{"name": topic}], response_partition_limit=100, cursor=None
            ),
            "produced": produce(self.world, 9, topic, *((index, batch(1)) for index in range(count))),
            "fetched": [
                fetch(self.world, 12, topic, {"partition": index, "fetch_offset": 5}) for index in range(count)
            ],
            "ends": self.ends(topic, count),
            "epochs": ask(
                ApiKey.OFFSET_FOR_LEADER_EPOCH, 4, replica_id=-1, topics=[{"topic": topic, "partitions": epochs}]
            ),
            "deleted": ask(
                ApiKey.DELETE_RECORDS, 2, topics=[{"name": topic, "partitions": deletions}], timeout_ms=10_000
            ),
            "producers": ask(
                ApiKey.DESCRIBE_PRODUCERS, 0, topics=[{"name": topic, "partition_indexes": list(range(count))}]
            ),
        }

    def cordon(self, value: str) -> Answer:
        (broker,) = self.world.raw(ApiKey.DESCRIBE_CLUSTER, 1).brokers
        config = {"name": "cordoned.log.dirs", "config_operation": 0, "value": value}
        resource = {"resource_type": 4, "resource_name": str(broker.broker_id), "configs": [config]}
        return self.world.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=[resource], validate_only=False)

    def lose(self, name: str) -> None:
        """A file is where the folder was."""
        (self.root / name).rename(self.root / f"{name}-lost")
        (self.root / name).write_bytes(b"")

    def find(self, name: str) -> None:
        (self.root / name).unlink()
        (self.root / f"{name}-lost").rename(self.root / name)


def told(story: Story, answers: dict[str, Answer]) -> None:
    """The chapters, in the order in which they are recorded."""
    world = story.world
    topic = story.topic("t", "a", "b", "c")
    answers["where they were wanted"] = story.describe(topic)
    answers["moved"] = story.move(("b", topic, [0]), ("a", topic, [1]))
    world.until(lambda: story.homes(topic) == {0: ["b"], 1: ["a"], 2: ["c"]})
    answers["then"] = story.describe(topic)
    answers["ends"] = story.ends(topic, 3)
    answers["where they are"] = story.move(("b", topic, [0]), ("a", topic, [1]))
    answers["nowhere"] = story.move(("/nowhere", topic, [0]))
    answers["a folder in other words"] = story.move((f"{story.path('c')}/", topic, [0]))
    answers["a relative one"] = story.move(("./c", topic, [0]))
    answers["a file in it"] = story.move((f"{story.path('c')}/meta.properties", topic, [0]))
    answers["twice: the last counts"] = story.move(("a", topic, [2]), ("c", topic, [2]))
    answers["no such partition"] = story.move(("c", topic, [7, -1]))
    answers["no such topic"] = story.move(("c", world.name("not-there"), [0]))
    compacted = story.topic("kept", "a", "b", cleanup_policy="compact")
    answers["both ways at once"] = story.move(("b", compacted, [0]), ("a", compacted, [1]))
    world.until(lambda: story.homes(compacted) == {0: ["b"], 1: ["a"]})
    answers["compacted ones"] = [story.describe(compacted), story.ends(compacted, 2)]

    answers["cordoned"] = story.cordon(story.path("c"))
    world.until(lambda: story.describe()["c"]["cordoned"])
    answers["cordoned, described"] = story.describe(topic)
    answers["to a cordoned one"] = story.move(("c", topic, [0]))
    answers["to where it is, cordoned"] = story.move(("c", topic, [2]))
    answers["out of a cordoned one"] = story.move(("a", topic, [2]))
    world.until(lambda: story.homes(topic)[2] == ["a"])
    many = world.topic("many", 4)
    answers["placed around it"] = sorted(home for (home,) in story.homes(many).values() if home == "c")
    answers["no such folder cordoned"] = story.cordon("/nowhere")
    answers["cordoned no more"] = story.cordon("")
    world.until(lambda: not story.describe()["c"]["cordoned"])
    answers["moved again"] = story.move(("c", topic, [2]))
    world.until(lambda: story.homes(topic)[2] == ["c"])

    answers["all well"] = [
        story.metadata(topic),
        story.ends(topic, 3),
    ]  # Kafka writes log starts down only now and then
    story.lose("c")
    world.until(lambda: story.describe()["c"]["error"] != 0)
    world.until(lambda: leaderless(story, topic) == [2])
    answers["a folder lost"] = story.everything(topic, 3)
    answers["a folder lost, described"] = story.describe(topic)
    answers["into it"] = story.move(("c", topic, [0]))
    answers["out of it"] = story.move(("a", topic, [2]))
    answers["between others"] = story.move(("a", topic, [0]))
    answers["where it is still"] = story.move(("b", topic, [0]))
    story.restart()
    world.until(lambda: leaderless(story, topic) == [2])
    answers["started without it"] = story.everything(topic, 3)
    answers["started without it, described"] = story.describe(topic)
    answers["started without it, moved"] = [story.move((name, topic, [2])) for name in "abc"]
    story.world.close()
    story.broker.stop()
    story.find("c")
    story.broker.start()
    world.until(lambda: leaderless(story, topic) == [])
    answers["found again"] = story.everything(topic, 3)
    answers["found again, described"] = story.describe(topic)
    answers["moved off"] = story.move(("a", topic, [2]))
    world.until(lambda: story.homes(topic)[2] == ["a"])
    answers["finally"] = [story.describe(topic), story.ends(topic, 3)]


def leaderless(story: Story, topic: str) -> list[int]:
    asked = [{"topic_id": bytes(16), "name": topic}]
    response = story.world.raw(ApiKey.METADATA, 12, topics=asked, allow_auto_topic_creation=False)
    return sorted(each.partition_index for each in response.topics[0].partitions if each.leader_id == -1)


def test_answers_are_kafkas(story: Story, request: pytest.FixtureRequest) -> None:
    found: dict[str, Answer] = {}
    told(story, found)
    found = json.loads(json.dumps(found))
    if request.config.getoption("--rewrite-answers"):
        assert story.broker.kind == "kafka", "the answers are Apache Kafka's"
        lines = (json.dumps({"chapter": chapter, "answer": answer}) for chapter, answer in found.items())
        ANSWERS.write_text("".join(f"{line}\n" for line in lines))
    expected = {line["chapter"]: line["answer"] for line in map(json.loads, ANSWERS.read_text().splitlines())}
    assert list(found) == list(expected)
    different = {chapter: differences(expected[chapter], found[chapter]) for chapter in expected}
    assert {chapter: each for chapter, each in different.items() if each} == {}


REASSIGNED = r"Successfully started partition reassignments? for "


@pytest.fixture
def kafka_at(tools: ToolHost, three: ChildBroker) -> Tools:
    """Kafka's tools, told of the broker with three folders."""
    return Tools(tools, three.address)


def test_reassign_partitions_moves_between_folders(kafka_at: Tools, story: Story, tmp_path: Path) -> None:
    topic = story.topic("t", "a", "b", "c")
    name = story.world.normal(topic)
    plan = tmp_path / "plan.json"
    targets = ["b", "c", "c"]
    rows = [
        {"topic": topic, "partition": index, "replicas": [1], "log_dirs": [story.path(target)]}
        for index, target in enumerate(targets)
    ]
    plan.write_text(json.dumps({"version": 1, "partitions": rows}))
    out = kafka_at.out(REASSIGN_PARTITIONS, "--reassignment-json-file", str(plan), "--execute")
    assert re.search(REASSIGNED, out), out
    assert out.count("Successfully started moving log directory to ") == 3

    def verified() -> list[str]:
        lines = kafka_at.out(REASSIGN_PARTITIONS, "--reassignment-json-file", str(plan), "--verify").splitlines()
        return sorted(line.replace(topic, name) for line in lines if "Reassignment of replica" in line)

    done = [f"Reassignment of replica {name}-{index}-1 completed successfully." for index in range(3)]
    eventually(verified, done)
    found = json.loads(kafka_at.out(LOG_DIRS, "--describe", "--topic-list", topic).splitlines()[-1])
    homes = {
        partition["partition"].replace(topic, name): Path(folder["logDir"]).name
        for folder in found["brokers"][0]["logDirs"]
        for partition in folder["partitions"]
    }
    assert homes == {f"{name}-{index}": target for index, target in enumerate(targets)}


OTHER = {"kpybroker": "kafka", "kafka": "kpybroker"}


@pytest.mark.usefixtures("java")
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_each_goes_on_with_the_folders_of_the_other(story: Story, tmp_path: Path, end: str) -> None:
    """There and back: places, records, directory ids; what is written meanwhile and moved is there, too."""
    first = story.broker
    topic = story.topic("t", "a", "b", "c")
    compacted = story.topic("kept", "b", "c", cleanup_policy="compact")
    ids = {name: read_properties(tmp_path / name / "meta.properties")["directory.id"] for name in NAMES}
    world = story.world
    for lap, kind in enumerate((OTHER[first.kind], first.kind, OTHER[first.kind])):
        before = [story.homes(topic), story.ends(topic, 3), story.homes(compacted), story.ends(compacted, 2)]
        read = [fetch(world, 12, topic, {"partition": index, "fetch_offset": 0}) for index in range(3)]
        world.close()
        {"stop": story.broker.stop, "kill": story.broker.kill}[end]()
        next_one = make(kind, tmp_path / f"lap-{lap}", tmp_path)
        next_one.start()
        try:
            story.broker = next_one
            world.address = next_one.address
            world.until(lambda: leaderless(story, topic) == leaderless(story, compacted) == [])
            world.wait_until_led(topic, 3)
            world.wait_until_led(compacted, 2)
            for at, found in zip((1, 3), (story.ends(topic, 3), story.ends(compacted, 2)), strict=True):
                assert offsets(found) == offsets(before[at]), (kind, end)
            assert [story.homes(topic), story.homes(compacted)] == [before[0], before[2]]
            again = [fetch(world, 12, topic, {"partition": index, "fetch_offset": 0}) for index in range(3)]
            assert [records(each) for each in again] == [records(each) for each in read]
            for index in range(3):
                produce(world, 9, topic, (index, batch(10)))
            (home,) = story.homes(topic)[lap]
            target = NAMES[(NAMES.index(home) + 1) % 3]
            story.move((target, topic, [lap]))
            world.until(lambda target=target, lap=lap: story.homes(topic)[lap] == [target])  # type: ignore[misc]
            new = story.topic(f"new-{lap}", "c", "a")
            assert story.homes(new) == {0: ["c"], 1: ["a"]}
            now = {name: read_properties(tmp_path / name / "meta.properties")["directory.id"] for name in NAMES}
            assert now == ids
        finally:
            if lap == 2:
                next_one.kill()
            else:
                story.others.append(next_one)


def offsets(answer: Any) -> list[int]:
    return [each["offset"] for each in answer["topics"][0]["partitions"]]


def records(answer: Any) -> str:
    return str(answer["responses"][0]["partitions"][0]["records"])
