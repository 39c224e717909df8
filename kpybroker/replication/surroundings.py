"""What a partition needs of its node, and a node that has it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from kpybroker.cluster.image import UNASSIGNED_DIRECTORY, ResourceType
from kpybroker.config.topic import topic_config
from kpybroker.replication.machines.leader import NEVER_S
from kpybroker.replication.replica_selection import RACK_AWARE

if TYPE_CHECKING:
    from kpybroker.cluster.image import ClusterImage
    from kpybroker.config.live import LiveConfig
    from kpybroker.config.topic import TopicConfig
    from kpybroker.replication.flusher import Flusher
    from kpybroker.replication.logs import Logs
    from kpybroker.replication.machines.leader import Proposal
    from kpybroker.replication.partition import Partition
    from kpybroker.replication.replica_log import ReplicaLog
    from kpybroker.storage.errors import StorageFailed
    from kpybroker.storage.log import Log
    from kpybroker.storage.log_config import LogConfig

log = logging.getLogger("kpybroker.replication")

Propose = Callable[["Partition", "Proposal"], None]


class Surroundings(Protocol):
    """What a partition needs of its node."""

    @property
    def me(self) -> int:
        """This node's id."""
        ...

    @property
    def lag_s_max(self) -> float:
        """replica.lag.time.max.ms, in seconds."""
        ...

    @property
    def former_life(self) -> bool:
        """Whether the metadata is about this node's former life: what that one led, this one does not begin to lead."""
        ...

    @property
    def followers_have_readers(self) -> bool:
        """Whether consumers are sent to followers, and wait there for the high watermark."""
        ...

    @property
    def sure_until_s(self) -> float:
        """Until then the controller has not had others lead for want of this node's heartbeats, monotonic seconds."""
        ...

    @property
    def silent_since_s(self) -> float:
        """After that time, who has not been heard since then is as far out of reach as the controller is."""
        ...

    def now_s(self) -> float:
        """Monotonic time."""
        ...

    def open_log(self, partition: ReplicaLog) -> Log:
        """Its log. Raises: StorageFailed."""
        ...

    def checkpointed_high_watermark(self, partition: ReplicaLog) -> int:
        """What the disk says of its high watermark, 0 if nothing."""
        ...

    def min_insync_replicas(self, topic: str) -> int:
        """min.insync.replicas of a topic."""
        ...

    def eligible(self, broker_id: int, broker_epoch: int) -> bool:
        """Whether a broker may be in an ISR, as the incarnation of that epoch."""
        ...

    def propose(self, partition: Partition, proposal: Proposal) -> None:
        """Have the controller asked for an ISR, and `isr_answered` called with what it says."""
        ...

    def flush(self, partition: Partition) -> None:
        """Have the log flushed, and `flushed` called when it is."""
        ...

    def met(self, partition: ReplicaLog, doing: str, failure: StorageFailed) -> None:
        """The disk has failed."""
        ...


class Node:
    """Implements Surroundings on the parts of a node."""

    def __init__(
        self,
        me: int,
        live: LiveConfig,
        logs: Logs,
        image: Callable[[], ClusterImage],
        flusher: Flusher,
        placed: Callable[[str, int, bytes], None],
    ) -> None:
        self.me = me
        self._live = live
        self._logs = logs
        self._image = image
        self._placed = placed
        self.flush = flusher.want
        self.propose: Propose = _nobody_to_ask
        self.sure_until_s, self.silent_since_s = float("inf"), NEVER_S
        """As in Surroundings; `Isolation` says."""
        self.former_life = False

    @property
    def lag_s_max(self) -> float:
        """replica.lag.time.max.ms, in seconds."""
        config = self._live.current
        return config.replica_lag_time_max_ms / 1000

    @property
    def followers_have_readers(self) -> bool:
        """Whether consumers are sent to followers, and wait there for the high watermark."""
        return self._live.current.replica_selector_class == RACK_AWARE

    def now_s(self) -> float:
        """Monotonic time."""
        return self._logs.clock.monotonic_s()

    def open_log(self, partition: ReplicaLog) -> Log:
        """Its log, opened or made. Raises: StorageFailed."""
        name, index, topic_id = partition.topic, partition.index, partition.topic_id
        wanted = self.directory_of(topic_id, index)
        opening = partial(self._logs.open, name, index, topic_id, self.log_config(name), wanted)
        opened = self._logs.trouble.opening((name, index), opening)
        self._placed(name, index, topic_id)
        return opened

    def directory_of(self, topic_id: bytes, index: int) -> bytes:
        """The id of the directory in which the metadata has a partition of this node's."""
        image = self._image().partition(topic_id, index)
        if image is None or self.me not in image.replicas:
            return UNASSIGNED_DIRECTORY
        return image.directories[image.replicas.index(self.me)]

    def checkpointed_high_watermark(self, partition: ReplicaLog) -> int:
        """What the disk says of its high watermark, 0 if nothing."""
        home = self._logs.dir_of(partition.topic, partition.index)
        return 0 if home is None else home.checkpointed_high_watermark(partition.topic, partition.index)

    def topic_config(self, topic: str) -> TopicConfig:
        """The settings of a topic that are in force."""
        return topic_config(self._live.current, self._image().config(ResourceType.TOPIC, topic))

    def log_config(self, topic: str) -> LogConfig:
        """Those that reach its logs; what is ignored of them is said."""
        config = self.topic_config(topic)
        for why in config.ignored:
            log.error("a setting of topic %s is ignored: %s", topic, why)
        return config.log

    def min_insync_replicas(self, topic: str) -> int:
        """min.insync.replicas of a topic."""
        return self.topic_config(topic).min_insync_replicas

    def eligible(self, broker_id: int, broker_epoch: int) -> bool:
        """Whether a broker may be in an ISR, as the incarnation of that epoch (-1: it has not said)."""
        broker = self._image().brokers.get(broker_id)
        return broker is not None and broker.active and broker_epoch in (-1, broker.epoch)

    def met(self, partition: ReplicaLog, doing: str, failure: StorageFailed) -> None:
        """The disk has failed."""
        self._logs.trouble.met_by(partition, doing, failure)


def _nobody_to_ask(partition: Partition, proposal: Proposal) -> None:
    """Until somebody sends proposals (`IsrChanges`) they wait for the metadata to say something else."""
