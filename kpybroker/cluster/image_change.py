"""A set of changes to an image while they are being made: copy-on-write maps, and the delta they end in.

An `ImageChange` starts from an image, is written to (`cluster/replay.py` has one function for each record type), and
ends in a new image and the `Delta` between the two. Maps are copied when first written to, once a change: replaying a
long log is one change, a live batch is another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from kpybroker.cluster.delta import Delta
from kpybroker.cluster.image import (
    BrokerImage,
    ClusterImage,
    FeaturesImage,
    PartitionImage,
    TopicImage,
    TopicsImage,
)

K = TypeVar("K")
V = TypeVar("V")


class Contradiction(Exception):
    """What a record asks for can't be done to the image."""


class MapChange(Generic[K, V]):
    """A map that is copied when it is first written to, and remembers which keys were."""

    __slots__ = ("_base", "_copy", "touched")

    def __init__(self, base: Mapping[K, V]) -> None:
        self._base = base
        self._copy: dict[K, V] | None = None
        self.touched: set[K] = set()

    def get(self, key: K) -> V | None:
        return (self._base if self._copy is None else self._copy).get(key)

    def put(self, key: K, value: V) -> None:
        self._writable()[key] = value
        self.touched.add(key)

    def remove(self, key: K) -> V | None:
        """Drop the key; returns what it had, None if it was not there."""
        self.touched.add(key)
        return self._writable().pop(key, None) if self.get(key) is not None else None

    def result(self) -> Mapping[K, V]:
        return self._base if self._copy is None else self._copy

    def _writable(self) -> dict[K, V]:
        if self._copy is None:
            self._copy = dict(self._base)
        return self._copy


class ImageChange:
    """Records applied to an image, not yet an image themselves. Used once: `finish` ends it."""

    def __init__(self, base: ClusterImage) -> None:
        self.base = base
        self.features = MapChange(base.features.levels)
        self.brokers = MapChange(base.brokers)
        self.controllers = MapChange(base.controllers)
        self.topics_by_name = MapChange(base.topics.by_name)
        self.topics_by_id = MapChange(base.topics.by_id)
        self.metric_names = MapChange(base.topics.by_metric_name)
        self.partitions: dict[bytes, MapChange[int, PartitionImage]] = {}
        """The partitions of topics that this change writes to; put into the topics by `finish`."""
        self.configs = MapChange(base.configs)
        self.quotas = MapChange(base.quotas)
        self.acls = MapChange(base.acls)
        self.scram = MapChange(base.scram)
        self.tokens = MapChange(base.tokens)
        self.producer_ids = base.producer_ids

    def finish(self, *, offset: int, epoch: int, timestamp: int) -> Delta:
        """The new image, as the `after` of the delta. The arguments say what the image contains: see ClusterImage."""
        for topic_id, partitions in self.partitions.items():
            topic = self.topics_by_id.get(topic_id)
            if topic is not None:
                topic = TopicImage(topic.name, topic_id, partitions.result())
                self.topics_by_id.put(topic_id, topic)
                self.topics_by_name.put(topic.name, topic)
        base = self.base
        topics = base.topics
        if self.topics_by_id.touched:
            topics = TopicsImage(self.topics_by_name.result(), self.topics_by_id.result(), self.metric_names.result())
        after = ClusterImage(
            offset=offset,
            epoch=epoch,
            timestamp=timestamp,
            features=FeaturesImage(self.features.result()) if self.features.touched else base.features,
            brokers=self.brokers.result(),
            controllers=self.controllers.result(),
            topics=topics,
            configs=self.configs.result(),
            quotas=self.quotas.result(),
            producer_ids=self.producer_ids,
            acls=self.acls.result(),
            scram=self.scram.result(),
            tokens=self.tokens.result(),
        )
        return self._delta(after)

    def _delta(self, after: ClusterImage) -> Delta:
        return Delta(
            before=self.base,
            after=after,
            topic_ids=frozenset(self.topics_by_id.touched),
            broker_ids=frozenset(self.brokers.touched),
            controller_ids=frozenset(self.controllers.touched),
            configs=frozenset(self.configs.touched),
            features=frozenset(self.features.touched),
            quotas=frozenset(self.quotas.touched),
            acls=frozenset(self.acls.touched),
            scram=frozenset(self.scram.touched),
            tokens=frozenset(self.tokens.touched),
        )

    def topic_partitions(self, topic_id: bytes) -> MapChange[int, PartitionImage]:
        """The partitions of a topic, to be written to. Raises: Contradiction if there is no such topic."""
        partitions = self.partitions.get(topic_id)
        if partitions is None:
            topic = self.topics_by_id.get(topic_id)
            if topic is None:
                raise Contradiction(f"there is no topic with id {topic_id.hex()}")
            partitions = self.partitions[topic_id] = MapChange(topic.partitions)
        return partitions

    def broker_at(self, broker_id: int, epoch: int) -> BrokerImage:
        """A registration. Raises: Contradiction if the broker is not registered with that epoch."""
        broker = self.brokers.get(broker_id)
        if broker is None or broker.epoch != epoch:
            raise Contradiction(f"broker {broker_id} is not registered with epoch {epoch}")
        return broker
