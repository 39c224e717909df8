"""A controller by itself, and scripted brokers: its answers and its records are those of Apache Kafka 4.3.1.

The answers are in answers/controller-*.jsonl; with --broker=kafka --rewrite-answers they are written anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.cluster.cluster import Cluster
from harness.versions.controller_table import CASES, ControllerCase
from harness.versions.controller_world import SETTINGS, ControllerWorld
from harness.versions.world import Answer, differences

ANSWERS = Path(__file__).parent / "answers"


def how_long(fixture_name: str, config: pytest.Config) -> str:  # noqa: ARG001
    """Apache Kafka's controller falls over topics that were deleted while nobody was in sync: each case has its own."""
    return "function" if config.getoption("--broker") == "kafka" else "module"


@pytest.fixture(scope=how_long)
def world(cluster_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerWorld]:
    with Cluster(tmp_path_factory.mktemp("controller"), [(cluster_kind, "controller")], settings=SETTINGS) as cluster:
        cluster.start()
        world = ControllerWorld(cluster)
        yield world
        world.close()


def answers_of(name: str, case: ControllerCase, world: ControllerWorld) -> dict[int, Answer]:
    """By version."""
    found = {}
    for version in case.versions():
        world.begin(f"{name}-{version}")
        found[version] = json.loads(json.dumps(case.ask(world, version)))
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_controllers_answers_are_kafkas(
    name: str, cluster_kind: str, world: ControllerWorld, request: pytest.FixtureRequest
) -> None:
    found = answers_of(name, CASES[name], world)
    path = ANSWERS / f"controller-{name}.jsonl"
    if request.config.getoption("--rewrite-answers"):
        assert cluster_kind == "kafka", "the answers are Apache Kafka's"
        lines = (json.dumps({"version": version, "answer": answer}) for version, answer in found.items())
        path.write_text("".join(f"{line}\n" for line in lines))
    lines_read = (json.loads(line) for line in path.read_text().splitlines())
    expected = {line["version"]: line["answer"] for line in lines_read}
    assert list(found) == list(expected)
    different = {version: differences(expected[version], found[version]) for version in expected}
    assert {version: each for version, each in different.items() if each} == {}
