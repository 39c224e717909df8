"""Snapshots of the cluster's metadata (KIP-630): the records that an image comes to, as a file of batches.

    <20-digit end offset>-<10-digit epoch>.checkpoint
        control batch   SnapshotHeader; with kraft.version 1 also KRaftVersion and Voters
        data batches    the records, with offsets of their own from 0
        control batch   SnapshotFooter

The end offset is the log offset after the last record that the image contains. A file without its footer is incomplete
and counts for nothing. The records come in the order in which Kafka writes them, metadata.version first of all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec.structs

from kpybroker.cluster.batches import ControlBatch, encode_batch, encode_control_batch, read_batches
from kpybroker.cluster.errors import IncompleteSnapshot
from kpybroker.cluster.features import DIRECTORIES_SINCE, METADATA_VERSION
from kpybroker.cluster.image import EMPTY, BrokerImage, ClusterImage, TopicImage
from kpybroker.cluster.loader import Loader, MetadataBatch
from kpybroker.cluster.machines.raft_events import Quorum, SnapshotId, Voter
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.internal.control_records import Endpoint as VoterEndpoint
from kpybroker.wire.internal.control_records import (
    KRaftVersionFeature,
    KRaftVersionRecord,
    SnapshotFooterRecord,
    SnapshotHeaderRecord,
    VotersRecord,
)
from kpybroker.wire.internal.control_records import Voter as VoterEntry
from kpybroker.wire.records.control import QuorumRecord

BATCH_RECORDS_MAX = 1000
"""Records in one batch of a snapshot: small enough to be decoded without holding up the loop for long."""


BOOTSTRAP = SnapshotId(0, 0)
"""The snapshot that formatting leaves: it has the voters and no records, and is never sent to a follower."""

_NAME = re.compile(r"(\d{20})-(\d{10})\.checkpoint", re.ASCII)


def parse_file_name(name: str) -> SnapshotId | None:
    """The snapshot that a file is, None if its name is not a snapshot's."""
    match = _NAME.fullmatch(name)
    return SnapshotId(int(match[1]), int(match[2])) if match else None


class Snapshot(NamedTuple):
    """What a snapshot file holds."""

    timestamp: int
    """When the last record that it contains was appended to the log, milliseconds since the epoch."""
    quorum: Quorum
    batches: Sequence[MetadataBatch]

    def records(self) -> Iterator[MetadataRecord]:
        """All records in order."""
        for batch in self.batches:
            yield from batch.records


def encode_snapshot(
    records: Sequence[MetadataRecord],
    *,
    quorum: Quorum,
    timestamp: int,
    epoch: int,
    now_ms: int,
    metadata_version: int | None = None,
) -> bytes:
    """The bytes of a snapshot file. `timestamp`: that of the last record contained; `now_ms`: for the batches."""
    header: list[QuorumRecord] = [SnapshotHeaderRecord(version=0, last_contained_log_timestamp=timestamp)]
    if quorum.kraft_version > 0:
        header += quorum_records(quorum)
    parts = [encode_control_batch(header, timestamp_ms=now_ms, leader_epoch=epoch)]
    offset = len(header)
    for start in range(0, len(records), BATCH_RECORDS_MAX):
        chunk = records[start : start + BATCH_RECORDS_MAX]
        parts.append(
            encode_batch(
                chunk,
                timestamp_ms=now_ms,
                base_offset=offset,
                leader_epoch=epoch,
                metadata_version=metadata_version,
            )
        )
        offset += len(chunk)
    footer = [SnapshotFooterRecord(version=0)]
    parts.append(encode_control_batch(footer, timestamp_ms=now_ms, base_offset=offset, leader_epoch=epoch))
    return b"".join(parts)


def read_snapshot(data: bytes) -> Snapshot:
    """What a snapshot file says. Raises: IncompleteSnapshot if it is cut off, damaged or no snapshot."""
    timestamp: int | None = None
    quorum = Quorum()
    batches: list[MetadataBatch] = []
    complete = False
    try:
        for batch in read_batches(data):
            if complete:
                raise IncompleteSnapshot("something follows the footer of a snapshot")
            if isinstance(batch, MetadataBatch):
                batches.append(batch)
                continue
            quorum = quorum_after(quorum, batch)
            for record in batch.records:
                if isinstance(record, SnapshotHeaderRecord):
                    timestamp = record.last_contained_log_timestamp
                complete = complete or isinstance(record, SnapshotFooterRecord)
    except CorruptRecords as error:
        raise IncompleteSnapshot(f"a snapshot is damaged: {error}") from error
    if timestamp is None or not complete:
        raise IncompleteSnapshot("a snapshot lacks its header or its footer")
    return Snapshot(timestamp, quorum, batches)


def image_of(snapshot: Snapshot, id_: SnapshotId) -> ClusterImage:
    """The image that a snapshot stands for. Raises: UnreplayableRecord, UnsupportedFeature."""
    loader = Loader(EMPTY)
    for batch in snapshot.batches:
        loader.load(batch)
    image = loader.publish().after
    if id_ == BOOTSTRAP:
        return image
    return msgspec.structs.replace(image, offset=id_.end_offset - 1, epoch=id_.epoch, timestamp=snapshot.timestamp)


# The quorum's records


def quorum_records(quorum: Quorum) -> list[QuorumRecord]:
    """KRaftVersion and Voters (KIP-853)."""
    return [
        KRaftVersionRecord(version=0, kraft_version=quorum.kraft_version),
        VotersRecord(
            version=0,
            voters=[
                VoterEntry(
                    voter_id=voter.id,
                    voter_directory_id=voter.directory_id,
                    endpoints=[VoterEndpoint(name=name, host=host, port=port) for name, host, port in voter.endpoints],
                    kraft_version_feature=KRaftVersionFeature(
                        min_supported_version=voter.kraft_versions[0], max_supported_version=voter.kraft_versions[1]
                    ),
                )
                for voter in quorum.voters
            ],
        ),
    ]


def quorum_after(quorum: Quorum, batch: ControlBatch) -> Quorum:
    """The quorum after a control batch of the log or of a snapshot."""
    for record in batch.records:
        if isinstance(record, KRaftVersionRecord):
            quorum = quorum._replace(kraft_version=record.kraft_version)
        elif isinstance(record, VotersRecord):
            quorum = quorum._replace(voters=tuple(_voter(entry) for entry in record.voters))
    return quorum


def _voter(entry: VoterEntry) -> Voter:
    versions = entry.kraft_version_feature
    return Voter(
        id=entry.voter_id,
        directory_id=entry.voter_directory_id,
        endpoints=tuple((point.name, point.host, point.port) for point in entry.endpoints),
        kraft_versions=(versions.min_supported_version, versions.max_supported_version),
    )


# An image as records


def image_records(image: ClusterImage) -> Iterator[MetadataRecord]:
    """The records that make an empty image into this one."""
    yield from _features(image)
    for broker in image.brokers.values():
        yield _broker(broker)
    for controller in image.controllers.values():
        yield rec.RegisterControllerRecord(
            controller_id=controller.id,
            incarnation_id=controller.incarnation_id,
            zk_migration_ready=controller.zk_migration_ready,
            end_points=[
                rec.ControllerEndpoint(
                    name=point.name, host=point.host, port=point.port, security_protocol=point.security_protocol
                )
                for point in controller.endpoints
            ],
            features=[
                rec.ControllerFeature(name=name, min_supported_version=low, max_supported_version=high)
                for name, (low, high) in controller.features.items()
            ],
        )
    for topic in image.topics.by_name.values():
        yield from _topic(topic, with_directories=(image.features.metadata_version or 0) >= DIRECTORIES_SINCE)
    for resource, values in image.configs.items():
        for name, value in values.items():
            yield rec.ConfigRecord(resource_type=resource.type, resource_name=resource.name, name=name, value=value)
    yield from _quotas(image)
    if image.producer_ids.next_producer_id >= 0:
        yield rec.ProducerIdsRecord(broker_id=-1, broker_epoch=-1, next_producer_id=image.producer_ids.next_producer_id)
    yield from _security(image)


def _features(image: ClusterImage) -> Iterator[MetadataRecord]:
    levels = image.features.levels
    for name in sorted(levels, key=lambda name: name != METADATA_VERSION):
        yield rec.FeatureLevelRecord(name=name, feature_level=levels[name])


def _broker(broker: BrokerImage) -> MetadataRecord:
    cordoned = broker.cordoned_directories
    return rec.RegisterBrokerRecord(
        broker_id=broker.id,
        is_migrating_zk_broker=broker.is_migrating_zk_broker,
        incarnation_id=broker.incarnation_id,
        broker_epoch=broker.epoch,
        end_points=[
            rec.BrokerEndpoint(
                name=point.name, host=point.host, port=point.port, security_protocol=point.security_protocol
            )
            for point in broker.endpoints
        ],
        features=[
            rec.BrokerFeature(name=name, min_supported_version=low, max_supported_version=high)
            for name, (low, high) in broker.features.items()
        ],
        rack=broker.rack,
        fenced=broker.fenced,
        in_controlled_shutdown=broker.in_controlled_shutdown,
        log_dirs=list(broker.directories),
        cordoned_log_dirs=None if cordoned is None else list(cordoned),
    )


def _topic(topic: TopicImage, *, with_directories: bool) -> Iterator[MetadataRecord]:
    yield rec.TopicRecord(name=topic.name, topic_id=topic.id)
    for index, partition in topic.partitions.items():
        yield rec.PartitionRecord(
            partition_id=index,
            topic_id=topic.id,
            replicas=list(partition.replicas),
            isr=list(partition.isr),
            removing_replicas=list(partition.removing_replicas),
            adding_replicas=list(partition.adding_replicas),
            leader=partition.leader,
            leader_recovery_state=partition.leader_recovery_state,
            leader_epoch=partition.leader_epoch,
            partition_epoch=partition.partition_epoch,
            directories=list(partition.directories) if with_directories else [],
            eligible_leader_replicas=list(partition.elr) or None,
            last_known_elr=list(partition.last_known_elr) or None,
        )


def _quotas(image: ClusterImage) -> Iterator[MetadataRecord]:
    for entity, values in image.quotas.items():
        for key, value in values.items():
            yield rec.ClientQuotaRecord(
                entity=[rec.EntityData(entity_type=part.type, entity_name=part.name) for part in entity],
                key=key,
                value=value,
                remove=False,
            )


def _security(image: ClusterImage) -> Iterator[MetadataRecord]:
    for id_, acl in image.acls.items():
        yield rec.AccessControlEntryRecord(
            id=id_,
            resource_type=acl.resource_type,
            resource_name=acl.resource_name,
            pattern_type=acl.pattern_type,
            principal=acl.principal,
            host=acl.host,
            operation=acl.operation,
            permission_type=acl.permission_type,
        )
    for user, credential in image.scram.items():
        yield rec.UserScramCredentialRecord(
            name=user.name,
            mechanism=user.mechanism,
            salt=credential.salt,
            stored_key=credential.stored_key,
            server_key=credential.server_key,
            iterations=credential.iterations,
        )
    for token in image.tokens.values():
        yield rec.DelegationTokenRecord(
            owner=token.owner,
            requester=token.requester,
            renewers=list(token.renewers),
            issue_timestamp=token.issue_timestamp,
            max_timestamp=token.max_timestamp,
            expiration_timestamp=token.expiration_timestamp,
            token_id=token.token_id,
        )
