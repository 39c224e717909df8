"""The folder that `kpybroker cluster` makes: nothing but Kafka's settings, and never half of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpybroker.config import BrokerConfig
from kpybroker.ids import Ids
from kpybroker.tools.cluster_folder import ClusterFolder, ClusterRefused, controllers_of


def planned(path: Path, nodes: int = 3, controllers: int = 3, **settings: str) -> ClusterFolder:
    folder, voters = ClusterFolder.plan(
        path, nodes=nodes, controllers=controllers, base_port=19092, settings=settings, ids=Ids(7)
    )
    assert [voter.node_id for voter in voters] == list(range(1, controllers + 1))
    return folder


def test_every_node_has_settings_that_a_node_starts_with(tmp_path: Path) -> None:
    folder = planned(tmp_path / "c", nodes=4, **{"num.partitions": "5"})
    configs = [BrokerConfig.load(node.properties_file, {}) for node in folder.nodes()]
    assert [config.node_id for config in configs] == [1, 2, 3, 4]
    assert [set(config.roles) for config in configs] == [{"broker", "controller"}] * 3 + [{"broker"}]
    assert [config.reachable.brokers[0].address for config in configs] == [
        f"localhost:{port}" for port in (19092, 19094, 19096, 19098)
    ]
    assert not any(config.warnings for config in configs)
    settings = folder.node(4).settings()
    assert settings["controller.quorum.bootstrap.servers"] == "localhost:19093,localhost:19095,localhost:19097"
    assert settings["log.dirs"] == str(tmp_path / "c" / "node-4" / "data")
    assert (settings["num.partitions"], settings["default.replication.factor"], settings["min.insync.replicas"]) == (
        "5",
        "3",
        "2",
    )
    assert folder.bootstrap_servers() == "localhost:19092,localhost:19094,localhost:19096,localhost:19098"


@pytest.mark.parametrize(("nodes", "controllers"), [(1, 1), (2, 1), (3, 3), (4, 3), (9, 3)])
def test_as_many_controllers_as_help(nodes: int, controllers: int) -> None:
    assert controllers_of(nodes) == controllers


def test_two_nodes_do_not_wait_for_each_other(tmp_path: Path) -> None:
    settings = planned(tmp_path, nodes=2, controllers=1).node(2).settings()
    assert (settings["default.replication.factor"], settings["min.insync.replicas"]) == ("2", "1")


def test_a_cluster_is_found_again(tmp_path: Path) -> None:
    planned(tmp_path).formatted()
    again = ClusterFolder(tmp_path)
    assert again.is_formatted
    assert [node.id for node in again.nodes()] == [1, 2, 3]


def test_one_that_was_not_formatted_to_the_end_is_made_anew(tmp_path: Path) -> None:
    first = planned(tmp_path, nodes=5)
    (first.node(1).path / "data").mkdir()
    second = planned(tmp_path, nodes=3)
    assert [node.id for node in second.nodes()] == [1, 2, 3]
    assert not (second.node(1).path / "data").exists()


def test_what_is_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "node-1").mkdir()
    with pytest.raises(ClusterRefused, match="is not empty"):
        planned(tmp_path)
    assert (tmp_path / "node-1").exists()
    with pytest.raises(ClusterRefused, match="has no cluster"):
        ClusterFolder(tmp_path)


def test_another_node_is_a_broker_with_the_settings_of_the_first(tmp_path: Path) -> None:
    folder = planned(tmp_path, **{"log.retention.hours": "1"})
    node = folder.another()
    settings = node.settings()
    assert (node.id, node.address, node.is_controller) == (4, ("localhost", 19098), False)
    assert settings["process.roles"] == "broker"
    assert settings["log.retention.hours"] == "1"
    node.leave()
    assert [each.id for each in folder.nodes()] == [1, 2, 3]
    assert folder.another().id == 5, "what is in node-4 belongs to a broker that was registered as 4"


def test_a_controller_that_leaves_is_asked_no_more(tmp_path: Path) -> None:
    folder = planned(tmp_path)
    folder.forget_controller(folder.node(2))
    for node in folder.nodes():
        assert node.settings()["controller.quorum.bootstrap.servers"] == "localhost:19093,localhost:19097"


def test_settings_keep_what_they_say(tmp_path: Path) -> None:
    node = planned(tmp_path).node(1)
    node.change({"broker.rack": r"a\b=c:d#e", "num.partitions": "9"})
    settings = node.settings()
    assert (settings["broker.rack"], settings["num.partitions"], settings["node.id"]) == (r"a\b=c:d#e", "9", "1")
