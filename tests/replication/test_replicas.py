"""The partitions of a node, looked through while the metadata changes."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from kpybroker.config import BrokerConfig
from kpybroker.config.live import LiveConfig
from kpybroker.replication.partition import Partition
from kpybroker.replication.replicas import Replicas

ME = 1


def partition_image(leader: int) -> Any:
    return SimpleNamespace(replicas=(ME,), isr=(ME,), leader=leader, leader_epoch=0, partition_epoch=0)


def topic_image(name: str, leader: int) -> Any:
    partitions = {index: partition_image(leader) for index in range(2)}
    return SimpleNamespace(name=name, id=name.encode().ljust(16), partitions=partitions)


class Metadata:
    """An image that can be replaced by another. Every topic is compacted."""

    def __init__(self, leader: int) -> None:
        self.say(leader, "a", "b")

    def say(self, leader: int, *topics: str) -> None:
        by_name = {name: topic_image(name, leader) for name in topics}
        configs = {"cleanup.policy": "compact"}
        self.image: Any = SimpleNamespace(topics=SimpleNamespace(by_name=by_name), config=lambda *_: configs)


Look = Callable[[Replicas], Iterator[Partition]]


@pytest.mark.parametrize("look", [Replicas.mine, Replicas.compacted])
def test_who_leads_is_what_the_metadata_says_when_a_partition_is_made(look: Look) -> None:
    """Looking takes its time, in which this node is unfenced and made leader: nobody tells a partition afterwards."""
    metadata = Metadata(leader=-1)
    logs: Any = SimpleNamespace(trouble=SimpleNamespace(met_by=None))
    found = look(Replicas(ME, LiveConfig(BrokerConfig.load()), logs, lambda: metadata.image))
    first = next(found)
    assert not first.is_leader
    metadata.say(ME, "a", "b")
    assert [partition.is_leader for partition in found] == [True, True, True]


@pytest.mark.parametrize("look", [Replicas.mine, Replicas.compacted])
def test_what_is_deleted_meanwhile_is_not_made(look: Look) -> None:
    metadata = Metadata(leader=ME)
    logs: Any = SimpleNamespace(trouble=SimpleNamespace(met_by=None))
    replicas = Replicas(ME, LiveConfig(BrokerConfig.load()), logs, lambda: metadata.image)
    found = look(replicas)
    next(found)
    metadata.say(ME, "a")
    assert len(list(found)) == 1
