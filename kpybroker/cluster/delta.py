"""What one or several committed batches changed: the image before, the image after, and the keys that were touched."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kpybroker.cluster.image import ClusterImage, ConfigResource, PartitionImage, QuotaEntity, ScramUser, TopicImage


class PartitionChanged(msgspec.Struct, frozen=True, gc=False):
    """One partition that exists after the change. `before` is None for a new one."""

    topic: TopicImage
    index: int
    before: PartitionImage | None
    after: PartitionImage


class Delta(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The difference between two images. A key in a set was written to; it may have ended as it was.

    The sets make finding the changes cost as much as the change, not as much as the cluster. What is found is in the
    same order in every process, as far as anybody hears of it: a simulation repeats itself.
    """

    before: ClusterImage
    after: ClusterImage
    topic_ids: frozenset[bytes] = frozenset()
    """Topics created, deleted, or with a partition that was written."""
    broker_ids: frozenset[int] = frozenset()
    controller_ids: frozenset[int] = frozenset()
    configs: frozenset[ConfigResource] = frozenset()
    features: frozenset[str] = frozenset()
    quotas: frozenset[QuotaEntity] = frozenset()
    acls: frozenset[bytes] = frozenset()
    scram: frozenset[ScramUser] = frozenset()
    tokens: frozenset[str] = frozenset()

    def topics_created(self) -> Iterator[TopicImage]:
        """Topics that are there now and were not before."""
        for topic_id in sorted(self.topic_ids):
            topic = self.after.topics.by_id.get(topic_id)
            if topic is not None and topic_id not in self.before.topics.by_id:
                yield topic

    def topics_deleted(self) -> Iterator[TopicImage]:
        """Topics that are gone, as they were."""
        for topic_id in sorted(self.topic_ids):
            topic = self.before.topics.by_id.get(topic_id)
            if topic is not None and topic_id not in self.after.topics.by_id:
                yield topic

    def partitions_changed(self) -> Iterator[PartitionChanged]:
        """New partitions (those of new topics too) and those whose state differs from before."""
        for topic_id in sorted(self.topic_ids):
            topic = self.after.topics.by_id.get(topic_id)
            if topic is None:
                continue
            former = self.before.topics.by_id.get(topic_id)
            for index, partition in topic.partitions.items():
                previous = former.partitions.get(index) if former is not None else None
                if previous is not partition and previous != partition:
                    yield PartitionChanged(topic, index, previous, partition)

    def then(self, later: Delta) -> Delta:
        """This change and the one that follows it, as one."""
        return Delta(
            before=self.before,
            after=later.after,
            topic_ids=self.topic_ids | later.topic_ids,
            broker_ids=self.broker_ids | later.broker_ids,
            controller_ids=self.controller_ids | later.controller_ids,
            configs=self.configs | later.configs,
            features=self.features | later.features,
            quotas=self.quotas | later.quotas,
            acls=self.acls | later.acls,
            scram=self.scram | later.scram,
            tokens=self.tokens | later.tokens,
        )


def everything(before: ClusterImage, after: ClusterImage) -> Delta:
    """The delta between two unrelated images, as when a snapshot replaced the state: every key of both is touched."""
    return Delta(
        before=before,
        after=after,
        topic_ids=frozenset(before.topics.by_id) | frozenset(after.topics.by_id),
        broker_ids=frozenset(before.brokers) | frozenset(after.brokers),
        controller_ids=frozenset(before.controllers) | frozenset(after.controllers),
        configs=frozenset(before.configs) | frozenset(after.configs),
        features=frozenset(before.features.levels) | frozenset(after.features.levels),
        quotas=frozenset(before.quotas) | frozenset(after.quotas),
        acls=frozenset(before.acls) | frozenset(after.acls),
        scram=frozenset(before.scram) | frozenset(after.scram),
        tokens=frozenset(before.tokens) | frozenset(after.tokens),
    )
