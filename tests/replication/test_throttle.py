"""Which replicas are held back (KIP-73)."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from kpybroker.cluster.image import ClusterImage, ConfigResource, ResourceType
from kpybroker.config import BrokerConfig
from kpybroker.replication import throttle
from kpybroker.replication.throttle import Throttle

ME = 7


class World:
    def __init__(self, replicas: str, rate: str | None = "1000") -> None:
        self.live: Any = SimpleNamespace()
        self.say(replicas, rate)
        self.throttle = Throttle("leader", ME, self.live, lambda: self.image, lambda: 0)

    def say(self, replicas: str, rate: str | None) -> None:
        configs: Mapping[str, str] = {"leader.replication.throttled.replicas": replicas}
        self.image = ClusterImage(configs={ConfigResource(ResourceType.TOPIC, "t"): configs})
        settings = {} if rate is None else {"leader.replication.throttled.rate": rate}
        self.live.current = BrokerConfig.load().with_dynamic(broker=settings, default={})

    def held(self) -> list[int]:
        return [index for index in range(12) if self.throttle.holds("t", index)]


@pytest.mark.parametrize(
    ("listed", "held"),
    [
        pytest.param("*", list(range(12)), id="all"),
        pytest.param(" * ", list(range(12)), id="all, with room"),
        pytest.param("", [], id="none"),
        pytest.param("0:7,1:8,10:7", [0, 10], id="those of this broker"),
        pytest.param(" 1:7 , 2:77, 3:17,4:7", [1, 4], id="whole numbers only"),
        pytest.param("x:7,:7,5,6:,7:7:7,none", [], id="nonsense"),
    ],
)
def test_which_are_held_back(listed: str, held: list[int]) -> None:
    assert World(listed).held() == held
    assert World(listed, rate=None).held() == [], "nobody, without a rate"


def test_a_list_is_read_once_for_each_change(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = throttle._partitions_of

    def counted(broker: int, listed: str) -> Any:
        read.append(listed)
        return real(broker, listed)

    monkeypatch.setattr(throttle, "_partitions_of", counted)
    world = World("0:7,1:7")
    assert world.held() == world.held() == [0, 1]
    world.say("2:7", "1000")
    assert world.held() == world.held() == [2]
    assert read == ["0:7,1:7", "2:7"]
    world.say("2:7", None)
    assert world.held() == []
    world.say("3:7", "1000")
    assert world.held() == [3]
    assert world.throttle._held.keys() == {"3:7"}, "what is over is not remembered"
