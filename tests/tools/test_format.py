"""`kpybroker format`: what it writes, and what it refuses in Kafka's words."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from kpybroker.cluster.snapshot import read_snapshot
from kpybroker.storage.meta_properties import MetaProperties, read_meta_properties
from kpybroker.tools.cli import main
from kpybroker.wire.primitives import uuid_from_text, uuid_text

CLUSTER = "AAAAAAAAAAAAAAAAAAAAAw"
FIRST, SECOND = "JEXY6aqzQY-32P5TStzaFg", "MvDxzVmcRsaTz33bUuRU6A"
COMBINED = "process.roles=broker,controller\nlisteners=PLAINTEXT://localhost:19092,CONTROLLER://localhost:19093\n"
CONTROLLER = "process.roles=controller\nlisteners=CONTROLLER://localhost:19093\n"
BROKER = "process.roles=broker\nlisteners=PLAINTEXT://localhost:19092\n"
STATIC = "controller.quorum.voters=1@localhost:19093,2@localhost:19193\n"
LATEST = {
    "metadata.version": 30,
    "eligible.leader.replicas.version": 1,
    "group.version": 1,
    "share.version": 1,
    "streams.version": 1,
    "transaction.version": 2,
}


class Node:
    """A node that is about to be formatted: a file, and two folders."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.properties()

    def properties(self, roles: str = COMBINED, quorum: str = "") -> None:
        text = (
            f"node.id=1\ncontroller.listener.names=CONTROLLER\nlog.dirs={self.path}/a,{self.path}/b\n{roles}"
            f"{quorum or 'controller.quorum.bootstrap.servers=localhost:19093'}\n"
        )
        (self.path / "c.properties").write_text(text)

    def run(self, *arguments: str) -> tuple[int, str]:
        command = ["format", "-c", str(self.path / "c.properties"), "-t", CLUSTER, *arguments]
        result = CliRunner().invoke(main, command, catch_exceptions=False)
        return result.exit_code, result.output.removeprefix("kpybroker: ").strip()

    def meta(self, folder: str) -> MetaProperties:
        path = self.path / folder / "meta.properties"
        return read_meta_properties(path.read_bytes(), str(path))

    def files(self) -> set[str]:
        found = (each.relative_to(self.path) for each in self.path.rglob("*") if each.is_file())
        return {str(each) for each in found if each.name not in (".lock", "c.properties")}

    def levels(self, folder: str = "a") -> dict[str, int]:
        records = read_snapshot((self.path / folder / "bootstrap.checkpoint").read_bytes()).records()
        return {record.name: record.feature_level for record in records}  # type: ignore[attr-defined]

    @property
    def snapshot(self) -> bytes:
        return (self.path / "a/__cluster_metadata-0/00000000000000000000-0000000000.checkpoint").read_bytes()


WITHOUT_QUORUM = {"a/meta.properties", "a/bootstrap.checkpoint", "b/meta.properties", "b/bootstrap.checkpoint"}
WITH_QUORUM = WITHOUT_QUORUM | {"a/__cluster_metadata-0/00000000000000000000-0000000000.checkpoint"}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_standalone(node: Node) -> None:
    code, told = node.run("--standalone")
    assert code == 0
    assert told.splitlines() == [
        f"Formatting dynamic metadata voter directory {node.path}/a with metadata.version 4.3-IV0.",
        f"Formatting data directory {node.path}/b with metadata.version 4.3-IV0.",
    ]
    assert node.files() == WITH_QUORUM
    assert node.levels("a") == node.levels("b") == LATEST
    one, other = node.meta("a"), node.meta("b")
    assert (one.cluster_id, one.node_id) == (other.cluster_id, other.node_id) == (CLUSTER, 1)
    assert one.directory_id != other.directory_id
    quorum = read_snapshot(node.snapshot).quorum
    (voter,) = quorum.voters
    assert (quorum.kraft_version, voter.id, uuid_text(voter.directory_id)) == (1, 1, one.directory_id)
    assert voter.endpoints == (("CONTROLLER", "localhost", 19093),)


@pytest.mark.parametrize(
    ("me", "kind"), [("1", "dynamic metadata voter directory"), ("3", "dynamic metadata directory")]
)
def test_initial_controllers(node: Node, me: str, kind: str) -> None:
    file = node.path / "c.properties"
    file.write_text(file.read_text().replace("node.id=1", f"node.id={me}"))
    code, told = node.run("--initial-controllers", f"1@[::1]:8082:{FIRST}, 2@b.example:8083:{SECOND}")
    assert (code, told.splitlines()[0].split("/")[0].strip()) == (0, f"Formatting {kind}")
    voters = read_snapshot(node.snapshot).quorum.voters
    assert [(voter.id, voter.directory_id, *voter.endpoints) for voter in voters] == [
        (1, uuid_from_text(FIRST), ("CONTROLLER", "::1", 8082)),
        (2, uuid_from_text(SECOND), ("CONTROLLER", "b.example", 8083)),
    ]
    assert (node.meta("a").directory_id == FIRST) is (me == "1")


@pytest.mark.parametrize(
    ("roles", "quorum", "arguments"),
    [
        pytest.param(COMBINED, STATIC, (), id="voters of the configuration"),
        pytest.param(COMBINED, "", ("--no-initial-controllers",), id="a quorum that is there"),
        pytest.param(BROKER, "", (), id="a broker"),
    ],
)
def test_without_a_quorum_of_its_own(node: Node, roles: str, quorum: str, arguments: tuple[str, ...]) -> None:
    node.properties(roles, quorum)
    assert node.run(*arguments)[0] == 0
    assert node.files() == WITHOUT_QUORUM


@pytest.mark.parametrize(
    ("arguments", "levels"),
    [
        (("-r", "4.3"), LATEST),
        (("-r", "4.3.1"), LATEST),
        (("-r", "4.3-IV0"), LATEST),
        (("-r", "3.9"), {"metadata.version": 21}),
        (("-r", "4.0"), {"metadata.version": 25, "group.version": 1, "transaction.version": 2}),
        (("-f", "metadata.version=21"), {"metadata.version": 21}),
        (("-f", "group.version=0"), {name: level for name, level in LATEST.items() if name != "group.version"}),
        (("-f", "transaction.version=1", "-f", "kraft.version=1"), {**LATEST, "transaction.version": 1}),
    ],
    ids=" ".join,
)
def test_features(node: Node, arguments: tuple[str, ...], levels: dict[str, int]) -> None:
    assert node.run("--standalone", *arguments)[0] == 0
    assert node.levels() == levels


@pytest.mark.parametrize(
    ("quorum", "arguments", "why"),
    [
        ("", (), "Because controller.quorum.voters is not set on this controller, you must specify one of the"),
        (STATIC, ("--standalone",), "You cannot specify controller.quorum.voters and format the node with"),
        ("", ("-s", "-f", "foo=1"), "Unsupported feature: foo. Supported features are: eligible.leader.replicas"),
        ("", ("-s", "-f", "group.version=7"), "No feature:group.version with feature level 7"),
        ("", ("-s", "-f", "metadata.version=3"), "No MetadataVersion with feature level 3. Valid feature levels"),
        ("", ("-s", "-f", "metadata.version=21", "-r", "3.9"), "Use --release-version instead of --feature"),
        ("", ("-s", "-r", "9.9"), "Unknown metadata.version '9.9'. Supported metadata.version are: 3.3-IV3, 3.4"),
        (
            "",
            ("-s", "-r", "3.3", "-f", "eligible.leader.replicas.version=1"),
            "eligible.leader.replicas.version could not be set to 1 because it depends on metadata.version level 23",
        ),
        ("", ("-s", "-f", "kraft.version=0"), "Cannot set kraft.version to 0 if controller.quorum.voters is empty"),
        (STATIC, ("-f", "kraft.version=1"), "Cannot set kraft.version to 1 unless controller.quorum.voters is empty"),
        ("", ("-I", f"1@h:1:{FIRST},1@h:2:{SECOND}"), "Node id 1 was specified more than once."),
        ("", ("-I", "1@h:1:short"), "Failed to parse directory ID in dynamic voter string."),
        ("", ("-I", f"h:1:{FIRST}"), "is not id@host:port:directory"),
        ("", ("-I", f"1@h:99999:{FIRST}"), "is not id@host:port:directory"),
    ],
)
def test_refused(node: Node, quorum: str, arguments: tuple[str, ...], why: str) -> None:
    node.properties(quorum=quorum)
    code, told = node.run(*arguments)
    assert (code, why in told, "\n" in told) == (1, True, False), told
    assert node.files() == set()


def test_only_controllers_stand_alone(node: Node) -> None:
    node.properties(BROKER)
    assert node.run("--standalone") == (1, "You can only use --standalone on a controller.")


@pytest.mark.parametrize("arguments", [("-s", "-N"), ("-s", "-f", "x"), ("-s", "-f", "x=y")])
def test_a_wrong_command_line(node: Node, arguments: tuple[str, ...]) -> None:
    assert node.run(*arguments)[0] == 2


def test_what_is_formatted_stays(node: Node) -> None:
    assert node.run("--standalone")[0] == 0
    one, other = node.meta("a"), node.meta("b")
    code, told = node.run("--standalone")
    assert (code, told.partition(". ")[0]) == (1, f"Log directory {node.path}/a is already formatted")
    assert node.run("-s", "-g") == (0, "All of the log directories are already formatted.")
    shutil.rmtree(node.path / "b")
    assert node.run("-s", "-g")[1] == f"Formatting data directory {node.path}/b with metadata.version 4.3-IV0."
    assert node.meta("a") == one
    assert node.meta("b").directory_id != other.directory_id
    node.properties(CONTROLLER)
    code, told = node.run("-s", "-g", "-t", "BBBBBBBBBBBBBBBBBBBBBw")
    assert (code, f"belongs to cluster {CLUSTER}" in told) == (1, True)


def test_an_id() -> None:
    result = CliRunner().invoke(main, ["random-uuid"])
    assert len(uuid_from_text(result.output.strip())) == 16
