"""A controller by itself, and scripted brokers: its answers and its records are those of Apache Kafka 4.3.1.

The answers are in answers/controller-*.jsonl; with --broker=kafka --rewrite-answers they are written anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.cluster.cluster import Cluster, random_id
from harness.versions.controller_table import CASES, OLD, OLD_RELEASE, ControllerCase
from harness.versions.controller_world import SETTINGS, ControllerWorld
from harness.versions.world import Answer, differences

from kpybroker.wire.api_keys import APIS, ApiKey

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


@pytest.fixture(scope=how_long)
def old_world(cluster_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerWorld]:
    """The same with an old metadata.version."""
    with Cluster(tmp_path_factory.mktemp("controller"), [(cluster_kind, "controller")], settings=SETTINGS) as cluster:
        (node,) = cluster.nodes
        cluster.write_properties(node)
        initial = f"{node.node_id}@{cluster.controller_address}:{random_id()}"
        node.format(cluster.cluster_id, "--initial-controllers", initial, "--release-version", OLD_RELEASE)
        node.launch()
        cluster.wait_whole()
        world = ControllerWorld(cluster)
        yield world
        world.close()


def check(name: str, found: dict[int, Answer], kind: str, config: pytest.Config) -> None:
    """Hold answers, by version, against Kafka's."""
    path = ANSWERS / f"controller-{name}.jsonl"
    if config.getoption("--rewrite-answers"):
        assert kind == "kafka", "the answers are Apache Kafka's"
        lines = (json.dumps({"version": version, "answer": answer}) for version, answer in found.items())
        path.write_text("".join(f"{line}\n" for line in lines))
    lines_read = (json.loads(line) for line in path.read_text().splitlines())
    expected = {line["version"]: line["answer"] for line in lines_read}
    assert list(found) == list(expected)
    different = {version: differences(expected[version], found[version]) for version in expected}
    assert {version: each for version, each in different.items() if each} == {}


def asked(world: ControllerWorld, name: str, case: ControllerCase, version: int) -> Answer:
    """The answers of one case at one version."""
    world.begin(f"{name}-{version}")
    return json.loads(json.dumps(case.ask(world, version)))


@pytest.mark.parametrize("name", CASES)
def test_a_controllers_answers_are_kafkas(
    name: str, cluster_kind: str, world: ControllerWorld, request: pytest.FixtureRequest
) -> None:
    case = CASES[name]
    found = {version: asked(world, name, case, version) for version in case.versions()}
    check(name, found, cluster_kind, request.config)


@pytest.mark.parametrize("name", OLD)
def test_at_an_old_metadata_version(
    name: str, cluster_kind: str, old_world: ControllerWorld, request: pytest.FixtureRequest
) -> None:
    case = OLD[name]
    version = case.versions()[-1]
    found = {version: asked(old_world, name, case, version)}
    check(f"old-{name}", found, cluster_kind, request.config)


SECURITY = {17, 29, 30, 31, 36, 38, 39, 40, 41, 50, 51}
"""SaslHandshake, SaslAuthenticate; ACLs, delegation tokens, SCRAM credentials: what has no handler yet."""


def test_what_a_controller_serves(cluster_kind: str, world: ControllerWorld) -> None:
    """KIP-919: Kafka's 41 APIs, with its ranges."""
    response = world.raw(ApiKey.API_VERSIONS, 4, client_software_name="compat", client_software_version="1")
    served = {each.api_key: (each.min_version, each.max_version) for each in response.api_keys}
    kafkas = {key: api.served_controller for key, api in APIS.items() if api.served_controller is not None}
    assert len(kafkas) == 41
    missing = set() if cluster_kind == "kafka" else SECURITY
    assert served == {key: versions for key, versions in kafkas.items() if key not in missing}
