"""Replication that is held back, so that moving partitions leaves room for clients (KIP-73).

A topic lists the replicas: `leader.replication.throttled.replicas` for what they send as leaders, its like for what
they fetch as followers. A broker's dynamic settings say how many bytes a second its own may have together. Whoever is
in sync is never held back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Literal

from kpybroker.cluster.image import ResourceType
from kpybroker.quotas.rates import Rate, Window

if TYPE_CHECKING:
    from kpybroker.cluster.image import ClusterImage
    from kpybroker.config.live import LiveConfig

Role = Literal["leader", "follower"]
THROTTLED: tuple[Role, Role] = ("leader", "follower")
UNLIMITED = 2**63 - 1
ALL: Collection[int] = range(2**31)


class Throttle:
    """What this node's replicas send as leaders, or what they fetch as followers."""

    def __init__(
        self,
        role: Role,
        me: int,
        live: LiveConfig,
        image: Callable[[], ClusterImage],
        now_ms: Callable[[], int],
    ) -> None:
        """`now_ms`: of a clock that only goes forward."""
        self._me = me
        self._live = live
        self._image = image
        self._now_ms = now_ms
        self._rate_setting = f"{role}.replication.throttled.rate"
        self._replicas_setting = f"{role}.replication.throttled.replicas"
        self._held: dict[str, Collection[int]] = {}
        """This node's partitions in each list that was met, so that none is read for every fetch."""
        config = live.current
        self._rate = Rate(
            Window(config.replication_quota_window_num, config.replication_quota_window_size_seconds * 1000)
        )

    def holds(self, topic: str, index: int) -> bool:
        """Whether a replica of this node's is one of those."""
        if self._bound >= UNLIMITED:
            self._held.clear()
            return False
        listed = self._image().config(ResourceType.TOPIC, topic).get(self._replicas_setting, "")
        held = self._held.get(listed)
        if held is None:
            held = self._held[listed] = _partitions_of(self._me, listed)
        return index in held

    def exceeded(self) -> bool:
        """Whether they have had too much lately."""
        return self._rate.measure(self._now_ms())[0] > self._bound

    def record(self, count: int) -> None:
        """They have had so many bytes."""
        self._rate.record(count, self._now_ms())

    @property
    def _bound(self) -> int:
        return self._live.current.int_of(self._rate_setting)


def _partitions_of(broker: int, listed: str) -> Collection[int]:
    """The partitions that a list has of one broker: `partition:broker,...`, or `*`. What is neither means nothing."""
    if listed.strip() == "*":
        return ALL
    pairs = (each.strip().partition(":") for each in listed.split(","))
    return frozenset(int(index) for index, _, holder in pairs if index.isdecimal() and holder == str(broker))
