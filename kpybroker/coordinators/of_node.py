"""All coordinators of a node: how they are built from each other, and how they follow the cluster's metadata."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from kpybroker.cluster.features import TRANSACTION_VERSION
from kpybroker.cluster.image import ResourceType
from kpybroker.cluster.names import CONSUMER_OFFSETS, TRANSACTION_STATE
from kpybroker.coordinators.broker_queues import OtherBrokers
from kpybroker.coordinators.group_settings import consumer_group_settings, group_settings
from kpybroker.coordinators.machines.settings import TransactionSettings
from kpybroker.coordinators.marker_sender import ClusterMarkers
from kpybroker.coordinators.partition_log import PartitionLog
from kpybroker.coordinators.service import Groups
from kpybroker.coordinators.transactions import Transactions
from kpybroker.coordinators.txn_coordinators import TxnCoordinators
from kpybroker.coordinators.txn_verifier import TxnVerifier
from kpybroker.replication.txn_markers import TxnMarkers

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.cluster.delta import Delta
    from kpybroker.cluster.image import ClusterImage
    from kpybroker.config import BrokerConfig
    from kpybroker.config.live import LiveConfig
    from kpybroker.coordinators.broker_queues import Peer
    from kpybroker.ids import Ids
    from kpybroker.replication.producer_ids import ProducerIds
    from kpybroker.replication.replicas import Replicas
    from kpybroker.wire.records.batch import Codec

CODECS: tuple[Codec, ...] = ("none", "gzip", "snappy", "lz4", "zstd")
"""By the number that offsets.topic.compression.codec has for them."""

MARKERS_CLIENT_ID = "broker-%d-txn-marker-sender"
QUESTIONS_CLIENT_ID = "AddPartitionsManager"
"""By which Apache Kafka's brokers know each other's requests."""


class NodeCoordinators:
    """The group coordinator, the transaction coordinator, and what transactions need of those of other nodes."""

    def __init__(
        self,
        broker_id: int,
        image: Callable[[], ClusterImage],
        live: LiveConfig,
        replicas: Replicas,
        clock: Clock,
        ids: Ids,
        producer_ids: ProducerIds,
        peers: Callable[[str], Callable[[int], Peer]],
    ) -> None:
        """`peers`: for a client id, what makes connections to other brokers by their ids."""
        config = live.current
        self._broker_id = broker_id
        self._live = live
        self._replicas = replicas
        self._clock = clock
        self._image = image
        self.groups = Groups(
            group_settings(config, image()),
            clock,
            ids,
            partitions=config.offsets_topic_num_partitions,
            codec=CODECS[int(str(config["offsets.topic.compression.codec"]))],
        )
        self.txn_markers = TxnMarkers(replicas, clock, self.groups, timeout_ms=config.request_timeout_ms)
        others = OtherBrokers(broker_id, image, peers(MARKERS_CLIENT_ID % broker_id), config.request_timeout_ms / 1000)
        self._cluster_markers = ClusterMarkers(self.txn_markers, others)
        self.transactions = Transactions(
            _transaction_settings(config, image()),
            clock,
            partitions=config.transaction_state_log_num_partitions,
            new_producer_id=producer_ids.next,
            sender=self._cluster_markers,
            is_known=self._is_known,
        )
        others = others._replace(peer_of=peers(QUESTIONS_CLIENT_ID))
        self._txn_coordinators = TxnCoordinators(self.transactions, others)
        self.txn_verifier = TxnVerifier(self._txn_coordinators, replicas, live, clock)

    def start(self, duties: trio.Nursery) -> None:
        """Begin the duties, with what the metadata says now."""
        image = self._image()
        self.groups.follow_settings(consumer_group_settings(self._live.current, image))
        self.transactions.reconfigure(_transaction_settings(self._live.current, image))
        self.groups.follow_topics(image)
        self._follow_partitions(image)
        duties.start_soon(self.groups.run, name="group coordinator")
        duties.start_soon(self.transactions.run, name="transaction coordinator")

    def follow(self, delta: Delta, image: ClusterImage) -> None:
        """A change of the metadata was committed, and the node's replicas have followed it."""
        deleted = [(topic.name, topic.id) for topic in delta.topics_deleted()]
        if deleted:
            self.groups.delete_topics(deleted)
        if delta.topic_ids or delta.broker_ids:
            self._tell_groups(delta, image)
        if any(resource.type in (ResourceType.BROKER, ResourceType.GROUP) for resource in delta.configs):
            self.groups.follow_settings(consumer_group_settings(self._live.current, image))
        if delta.topic_ids:
            self._follow_partitions(image)
        if delta.broker_ids:
            self._cluster_markers.queues.follow(image)
            self._txn_coordinators.queues.follow(image)
        if delta.topic_ids or delta.broker_ids:
            self.transactions.places_changed()
        if delta.features:
            self.transactions.reconfigure(_transaction_settings(self._live.current, image))

    def _tell_groups(self, delta: Delta, image: ClusterImage) -> None:
        """Let consumer groups know which topics have changed."""
        created = any(True for _ in delta.topics_created())
        known = (delta.after.topics.by_id.get(each) or delta.before.topics.by_id.get(each) for each in delta.topic_ids)
        self.groups.follow_topics(image, {topic.name for topic in known if topic is not None}, created=created)

    def _follow_partitions(self, image: ClusterImage) -> None:
        """Coordinate what lives in those partitions of the internal topics that this node leads."""
        for coordinator, name in ((self.groups, CONSUMER_OFFSETS), (self.transactions, TRANSACTION_STATE)):
            coordinator.follow(image.topics.by_name.get(name), self._broker_id, partial(self._shard_log, name))

    def _shard_log(self, topic: str, index: int) -> PartitionLog:
        return PartitionLog(self._replicas.get(topic, index), self._clock)

    def _is_known(self, topic: str, index: int) -> bool:
        known = self._image().topics.by_name.get(topic)
        return known is not None and index in known.partitions


def _transaction_settings(config: BrokerConfig, image: ClusterImage) -> TransactionSettings:
    return TransactionSettings(
        timeout_ms_max=config.transaction_max_timeout_ms,
        id_expiration_ms=config.transactional_id_expiration_ms,
        abort_interval_ms=config.transaction_abort_timed_out_transaction_cleanup_interval_ms,
        expiration_interval_ms=config.transaction_remove_expired_transaction_cleanup_interval_ms,
        two_phase_commit=config.transaction_two_phase_commit_enable,
        transaction_version=image.features.levels.get(TRANSACTION_VERSION, 0),
    )
