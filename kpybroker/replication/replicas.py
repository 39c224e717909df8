"""The partitions that this node holds, kept in step with the cluster's metadata.

A Partition is made when it is first asked for, its log opened when it is first used: a node with ten thousand
partitions starts as quickly as one with ten.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from kpybroker.cluster.image import ConfigResource, ResourceType
from kpybroker.replication.flusher import Flusher
from kpybroker.replication.partition import Partition
from kpybroker.replication.surroundings import Node
from kpybroker.replication.throttle import THROTTLED, Throttle
from kpybroker.storage.errors import StorageFailed
from kpybroker.wire.codes import Code, Refused

if TYPE_CHECKING:
    from kpybroker.cluster.delta import Delta
    from kpybroker.cluster.image import ClusterImage, PartitionImage, TopicImage
    from kpybroker.config import BrokerConfig
    from kpybroker.config.live import LiveConfig
    from kpybroker.replication.log_dir import LogDir
    from kpybroker.replication.logs import Logs
    from kpybroker.storage.log_config import LogConfig

log = logging.getLogger("kpybroker.replication")


class Replicas:
    """All replicas of one node."""

    def __init__(self, me: int, live: LiveConfig, logs: Logs, image: Callable[[], ClusterImage]) -> None:
        self._me = me
        self._live = live
        self._logs = logs
        self._image = image
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._offline: set[tuple[str, int]] = set()
        """Partitions whose data directory has failed."""
        self._on_drop: list[Callable[[str, int], None]] = []
        self._on_misplaced: list[Callable[[bytes, int, bytes], object]] = []
        self.flusher = Flusher(logs)
        self.around = Node(me, live, logs, image, self.flusher, self.placed)
        """What the partitions need of this node."""
        self.knows_this_life: Callable[[ClusterImage], bool] = lambda _: True
        """Whether the metadata has this node as the broker that it is now; to be set before anything is loaded."""
        self.leader_throttle, self.follower_throttle = (
            Throttle(role, me, live, image, lambda: int(logs.clock.monotonic_s() * 1000)) for role in THROTTLED
        )
        """What holds back what this node's replicas send, and what they fetch."""
        self._on_role: list[Callable[[Partition], None]] = []
        live.on_change(self._configure_all)

    def on_drop(self, listener: Callable[[str, int], None]) -> None:
        """Call `listener` when a partition is about to be deleted."""
        self._on_drop.append(listener)

    def on_misplaced(self, listener: Callable[[bytes, int, bytes], object]) -> None:
        """Call `listener` with topic id, partition and directory id of what is not where the metadata has it."""
        self._on_misplaced.append(listener)

    def on_role(self, listener: Callable[[Partition], None]) -> None:
        """Call `listener` whenever the metadata has said something of a partition: who leads it, or that it is gone."""
        self._on_role.append(listener)

    def get(self, topic: str, index: int) -> Partition:
        """A partition that this node holds.

        Raises: Refused with UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER if another node holds it, or
        KAFKA_STORAGE_ERROR if its data directory has failed.
        """
        partition = self._partitions.get((topic, index))
        return partition if partition is not None else self._make(topic, index)

    def _make(self, topic: str, index: int) -> Partition:
        known = self._image().topics.by_name.get(topic)
        image = known.partitions.get(index) if known is not None else None
        if known is None or image is None:
            raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION)
        if self._me not in image.replicas:
            raise Refused(Code.NOT_LEADER_OR_FOLLOWER)
        if (topic, index) in self._offline:
            raise Refused(Code.KAFKA_STORAGE_ERROR)
        return self._hold(known, index, image)

    def _hold(self, topic: TopicImage, index: int, image: PartitionImage) -> Partition:
        partition = self._partitions[topic.name, index] = Partition(topic.name, index, topic.id, self.around)
        partition.lead(image)
        return partition

    def directory_of(self, topic_id: bytes, index: int) -> bytes:
        """The id of the directory in which the metadata has a partition of this node's."""
        return self.around.directory_of(topic_id, index)

    def placed(self, topic: str, index: int, topic_id: bytes) -> None:
        """A partition is where it is: if the metadata has it in another data directory, somebody hears of it."""
        if self._on_misplaced:
            home = self._logs.dir_of(topic, index)
            if home is not None and home.id != self.directory_of(topic_id, index):
                for listener in self._on_misplaced:
                    listener(topic_id, index, home.id)

    def check_places(self) -> None:
        """At start: `placed`, of every partition."""
        for topic in self._image().topics.by_name.values():
            for index, image in topic.partitions.items():
                if self._me in image.replicas:
                    self.placed(topic.name, index, topic.id)

    def log_config(self, topic: str) -> LogConfig:
        """The settings of a topic that reach its logs."""
        return self.around.log_config(topic)

    def mine(self) -> Iterator[Partition]:
        """Every partition that the metadata gives to this node, made if need be.

        The metadata may change while the caller is busy with one of them: each is made from what it says by then. Made
        from what it said before, a partition would never hear who leads it.
        """
        for topic in list(self._image().topics.by_name):
            yield from self._mine_of(topic)

    def compacted(self) -> Iterator[Partition]:
        """Those of `mine` whose topic has the cleanup policy compact."""
        for topic in list(self._image().topics.by_name):
            if self.log_config(topic).compacted:
                yield from self._mine_of(topic)

    def _mine_of(self, topic: str) -> Iterator[Partition]:
        known = self._image().topics.by_name.get(topic)
        for index in list(known.partitions) if known is not None else ():
            try:
                partition = self.get(topic, index)
            except Refused:  # deleted in the meantime, or another node's
                continue
            yield partition

    @property
    def logs(self) -> Logs:
        """Where the replicas are."""
        return self._logs

    async def persist_log_starts(self, places: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        """Make durable where logs start; returns those of which that failed."""
        return await self._logs.persist_log_starts(places)

    def folder_failed(self, failed: LogDir) -> None:
        """A data directory has failed: its partitions are out of service until the node is started again."""
        for place in failed.open_logs:
            self._offline.add(place)
            partition = self._partitions.pop(place, None)
            if partition is not None:
                partition.stop()
                self._tell_role(partition)

    def high_watermarks(self) -> dict[tuple[str, int], int]:
        """The high watermarks of the partitions whose logs are open and well, by topic and index."""
        return {
            place: partition.high_watermark
            for place, partition in self._partitions.items()
            if partition.opened is not None and partition.opened.failure is None
        }

    def assigned(self) -> Iterator[tuple[str, int]]:
        """Topic and index of every partition that the metadata gives to this node."""
        for topic in self._image().topics.by_name.values():
            for index, image in topic.partitions.items():
                if self._me in image.replicas:
                    yield topic.name, index

    async def recover(self) -> None:
        """Open every log, in a worker thread: after an unclean stop each may have a tail to be cut.

        A log that can't be opened is logged, and answers its clients with KAFKA_STORAGE_ERROR.
        """
        left: dict[LogDir | None, set[tuple[str, int]]] = {}
        for partition in list(self.mine()):
            try:
                await trio.to_thread.run_sync(partition.load)
            except StorageFailed as failure:
                partition.failed("recover", failure)
                place = partition.topic, partition.index
                left.setdefault(self._logs.dir_of(*place), set()).add(place)
            else:
                partition.begin()
        for home in self._logs.dirs:
            home.unrecovered = left.get(home, set())

    def apply(self, delta: Delta) -> None:
        """Follow a change of the metadata: topics come and go, leaders change, settings change."""
        self.around.former_life = not self.knows_this_life(delta.after)
        for topic in delta.topics_deleted():
            for index, image in topic.partitions.items():
                if self._me in image.replicas:
                    self._drop(topic, index)
        for change in delta.partitions_changed():
            self._follow(change.topic, change.index, change.before, change.after)
        for resource in delta.configs:
            self._configure(resource)
        if delta.broker_ids:
            for partition in self._partitions.values():
                partition.reconsider()

    def _drop(self, topic: TopicImage, index: int) -> None:
        partition = self._partitions.pop((topic.name, index), None)
        self._logs.trouble.forget((topic.name, index))
        if partition is not None:
            partition.stop()
            self._tell_role(partition)
        for listener in self._on_drop:
            listener(topic.name, index)
        self._offline.discard((topic.name, index))
        try:
            self._logs.delete(topic.name, index, self.log_config(topic.name).file_delete_delay_ms)
        except StorageFailed as failure:
            self._logs.trouble.met(f"delete {topic.name}-{index}", failure)

    def _follow(self, topic: TopicImage, index: int, before: PartitionImage | None, after: PartitionImage) -> None:
        if self._me not in after.replicas:
            if before is not None and self._me in before.replicas:  # it was moved to other brokers
                self._drop(topic, index)
            return
        partition = self._partitions.get((topic.name, index))
        if partition is not None:
            partition.lead(after)
        elif before is None or self._me not in before.replicas:  # its folder is made now, so that a restart finds it
            self._open(self._hold(topic, index, after))
        elif len(after.replicas) > 1 and (topic.name, index) not in self._offline:
            partition = self._hold(topic, index, after)
        if partition is None:
            partition = self._partitions.get((topic.name, index))
        if partition is not None:
            self._tell_role(partition)

    def _tell_role(self, partition: Partition) -> None:
        for listener in self._on_role:
            listener(partition)

    def held(self) -> list[Partition]:
        """The partitions that were made."""
        return list(self._partitions.values())

    def replicated(self) -> Iterator[Partition]:
        """The partitions of this node's that have several replicas, made if need be."""
        for topic in list(self._image().topics.by_name.values()):
            for index, image in topic.partitions.items():
                if self._me in image.replicas and len(image.replicas) > 1:
                    with suppress(Refused):  # its folder has failed
                        yield self.get(topic.name, index)

    @staticmethod
    def _open(partition: Partition) -> None:
        with suppress(Refused):  # that was told; it is tried again when it is used
            _ = partition.log

    def _configure(self, resource: ConfigResource) -> None:
        """The settings of one topic were changed."""
        topic = self._image().topics.by_name.get(resource.name) if resource.type == ResourceType.TOPIC else None
        if topic is not None:
            self._reconfigure(topic.name, topic.partitions)

    def _configure_all(self, old: BrokerConfig, new: BrokerConfig) -> None:  # noqa: ARG002 - a callback's signature
        """The broker's settings were changed, which are the topics' defaults."""
        by_topic: dict[str, list[int]] = {}
        for topic, index in self._partitions:
            by_topic.setdefault(topic, []).append(index)
        for topic, indexes in by_topic.items():
            self._reconfigure(topic, indexes)

    def _reconfigure(self, topic: str, indexes: Iterable[int]) -> None:
        """Give the open logs of a topic the settings that are now in force."""
        config: LogConfig | None = None
        for index in indexes:
            partition = self._partitions.get((topic, index))
            if partition is not None and partition.opened is not None:
                if config is None:
                    config = self.log_config(topic)
                partition.opened.reconfigure(config)
                partition.reconfigured()
