"""Every API at every version that Apache Kafka serves: the answers are those that Apache Kafka 4.3.1 gave.

The answers are in answers/, one file a case, one line a version; with --broker=kafka --rewrite-answers they are written
anew. What differs from run to run is taken out of them: harness/versions/world.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.brokers import BrokerUnderTest
from harness.versions.cases import CASES, Case
from harness.versions.log_cases import batch, fetch
from harness.versions.world import Answer, Wire, World, differences

from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.json_form import to_json

ANSWERS = Path(__file__).parent / "answers"


@pytest.fixture(scope="module")
def world(_session_broker: BrokerUnderTest) -> Iterator[World]:
    world = World(_session_broker.address)
    _wait_for_coordinator(world)
    yield world
    world.close()


def _wait_for_coordinator(world: World) -> None:
    """The first question makes __consumer_offsets; until it is loaded, groups are told to come again."""
    world.until(lambda: world.raw(ApiKey.FIND_COORDINATOR, 3, key="any", key_type=0).error_code == 0)
    world.until(lambda: world.raw(ApiKey.LIST_GROUPS, 4).error_code == 0)


def answers_of(case: Case, world: World) -> dict[int, Answer]:
    """By version."""
    return {version: json.loads(json.dumps(case.ask(world, version))) for version in case.versions()}


@pytest.mark.parametrize("name", CASES)
def test_answers_are_kafkas(name: str, broker: BrokerUnderTest, world: World, request: pytest.FixtureRequest) -> None:
    found = answers_of(CASES[name], world)
    path = ANSWERS / f"{name}.jsonl"
    if request.config.getoption("--rewrite-answers"):
        assert broker.kind == "kafka", "the answers are Apache Kafka's"
        lines = (json.dumps({"version": version, "answer": answer}) for version, answer in found.items())
        path.write_text("".join(f"{line}\n" for line in lines))
    lines_read = (json.loads(line) for line in path.read_text().splitlines())
    expected = {line["version"]: line["answer"] for line in lines_read}
    assert list(found) == list(expected)
    different = {version: differences(expected[version], found[version]) for version in expected}
    assert {version: each for version, each in different.items() if each} == {}


def test_advertised_ranges_are_kafkas(broker: BrokerUnderTest, world: World, request: pytest.FixtureRequest) -> None:
    """What is advertised is so with Kafka's range, at each version of ApiVersions; the features are Kafka's."""
    found = {
        version: to_json(
            world.raw(ApiKey.API_VERSIONS, version, client_software_name="compat", client_software_version="1"), version
        )
        for version in range(5)
    }
    path = ANSWERS / "api-versions.jsonl"
    if request.config.getoption("--rewrite-answers"):
        assert broker.kind == "kafka", "the answers are Apache Kafka's"
        path.write_text("".join(json.dumps({"version": key, "answer": value}) + "\n" for key, value in found.items()))
    for line in path.read_text().splitlines():
        version, expected = (json.loads(line)[key] for key in ("version", "answer"))
        ranges = {each["apiKey"]: each for each in expected["apiKeys"]}
        answer = found[version]
        assert answer["errorCode"] == 0
        assert all(each == ranges.get(each["apiKey"]) for each in answer["apiKeys"]), version
        for features in ("supportedFeatures", "finalizedFeatures"):
            ours, kafkas = (sorted(each.get(features, []), key=json.dumps) for each in (answer, expected))
            assert ours == kafkas, version


@pytest.mark.parametrize(
    ("key", "version", "body"),
    [
        pytest.param(ApiKey.METADATA, 99, b"", id="an unknown version"),
        pytest.param(999, 0, b"", id="an unknown API"),
        pytest.param(ApiKey.METADATA, 12, b"\x02", id="a body cut short"),
        pytest.param(ApiKey.PRODUCE, 2, b"\x00" * 10, id="Produce before version 3"),
    ],
)
def test_connection_is_closed(broker: BrokerUnderTest, key: int, version: int, body: bytes) -> None:
    wire = Wire(broker.address)
    wire.send(key, version, body)
    assert wire.receive() is None
    wire.close()


def test_unknown_version_of_api_versions(broker: BrokerUnderTest) -> None:
    """KIP-511: answered at version 0, with the one range that the client needs to know."""
    wire = Wire(broker.address)
    wire.send(ApiKey.API_VERSIONS, 99, b"\x00")
    answer = wire.receive()
    assert answer is not None
    assert answer[4:] == b"\x00\x23" + b"\x00\x00\x00\x01" + b"\x00\x12\x00\x00\x00\x04"
    wire.close()


def test_acks_0_is_not_answered(world: World, broker: BrokerUnderTest) -> None:
    """What is asked behind it is the next that is answered; and it was carried out before."""
    topic = world.topic("acks-0")
    wire = Wire(broker.address)
    partition = {"index": 0, "records": batch(2)}
    request = {"acks": 0, "timeout_ms": 30_000, "topic_data": [{"name": topic, "partition_data": [partition]}]}
    wire.send_only(ApiKey.PRODUCE, 9, request)
    after = wire.ask(ApiKey.API_VERSIONS, 0, {})
    assert after is not None
    stored = fetch(world, 11, topic, {"partition": 0})
    assert stored["responses"][0]["partitions"][0]["highWatermark"] == 2

    wire.send_only(ApiKey.PRODUCE, 9, {**request, "topic_data": [{"name": "not-there", "partition_data": [partition]}]})
    assert wire.receive() is None, "an error with acks=0 closes the connection"
    wire.close()
