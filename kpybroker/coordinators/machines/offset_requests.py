"""What requests and time do to committed offsets: commit, fetch, delete, expire.

Each function decides and changes nothing: what is to change comes out as records, which `Offsets.apply` takes over once
the log has them.
"""

from __future__ import annotations

from collections.abc import Iterator

from kpybroker.clock import Now
from kpybroker.coordinators.machines.classic_group import ClassicGroup
from kpybroker.coordinators.machines.consumer.group import ConsumerGroup
from kpybroker.coordinators.machines.effects import Record
from kpybroker.coordinators.machines.events import CommitOffsets, CommitTxnOffsets, Effects, FetchOffsets
from kpybroker.coordinators.machines.foreign_group import ForeignGroup
from kpybroker.coordinators.machines.group_records import offset_tombstone
from kpybroker.coordinators.machines.offsets import CommittedOffset, Offsets
from kpybroker.coordinators.machines.rebalance import GroupState
from kpybroker.coordinators.machines.replies import txn_commit_error
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.group_records import OffsetCommitKey, OffsetCommitValue
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequestPartition,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from kpybroker.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from kpybroker.wire.messages.offset_fetch import (
    OffsetFetchRequestTopics,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
)
from kpybroker.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)
from kpybroker.wire.primitives import ZERO_UUID

GROUP_NOT_FOUND_SINCE = 9
"""The version of OffsetCommit that says when a group is not there; before, its generation is illegal."""
NO_RETENTION = -1
NO_TIMESTAMP = -1
NO_OFFSET = -1
INT64_MAX = 2**63 - 1


def commit(event: CommitOffsets, settings: GroupSettings, now: Now, out: Effects) -> None:
    """Commit what an OffsetCommit carries; its sender has been found entitled to.

    Metadata that is too large spoils its own partition only.
    """
    request = event.request
    group_id = request.group_id
    retention_ms = request.retention_time_ms
    expires_ms = NO_TIMESTAMP if retention_ms == NO_RETENTION else min(now.wall_ms + retention_ms, INT64_MAX)
    records = out.records
    topics = []
    for topic in request.topics:
        name, topic_id = topic.name, topic.topic_id
        partitions = []
        for partition in topic.partitions:
            index = partition.partition_index
            code = Code.NONE
            if _metadata_fits(partition.committed_metadata, settings):
                value = _committed(partition, topic_id, now, expires_ms)
                records.append(Record(OffsetCommitKey(group=group_id, topic=name, partition=index), value))
            else:
                code = Code.OFFSET_METADATA_TOO_LARGE
            partitions.append(OffsetCommitResponsePartition(partition_index=index, error_code=code))
        topics.append(OffsetCommitResponseTopic(name=name, topic_id=topic_id, partitions=partitions))
    out.replies.append((event.token, OffsetCommitResponse(topics=topics)))


def commit_in_transaction(
    event: CommitTxnOffsets, fault: Code | None, settings: GroupSettings, now: Now, out: Effects
) -> None:
    """Commit what a TxnOffsetCommit carries, pending until its transaction is decided, unless there is a `fault`."""
    if fault is not None:
        out.replies.append((event.token, txn_commit_error(fault, event.request.topics)))
        return
    group_id = event.request.group_id
    out.producer = event.producer
    topics = []
    for topic in event.request.topics:
        partitions = []
        for partition in topic.partitions:
            index = partition.partition_index
            code = Code.NONE
            if _metadata_fits(partition.committed_metadata, settings):
                value = _committed(partition, topic.topic_id, now, NO_TIMESTAMP)
                out.records.append(Record(OffsetCommitKey(group=group_id, topic=topic.name, partition=index), value))
            else:
                code = Code.OFFSET_METADATA_TOO_LARGE
            partitions.append(TxnOffsetCommitResponsePartition(partition_index=index, error_code=code))
        topics.append(TxnOffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id, partitions=partitions))
    out.replies.append((event.token, TxnOffsetCommitResponse(throttle_time_ms=0, topics=topics)))


def _committed(
    partition: OffsetCommitRequestPartition | TxnOffsetCommitRequestPartition,
    topic_id: bytes,
    now: Now,
    expires_ms: int,
) -> OffsetCommitValue:
    """What is kept of an offset."""
    return OffsetCommitValue(
        offset=partition.committed_offset,
        leader_epoch=partition.committed_leader_epoch,
        metadata=partition.committed_metadata or "",
        commit_timestamp=now.wall_ms,
        expire_timestamp=expires_ms,
        topic_id=topic_id,
    )


def _metadata_fits(metadata: str | None, settings: GroupSettings) -> bool:
    """Whether an offset's metadata is within offset.metadata.max.bytes, which Kafka counts in characters."""
    return not metadata or not _is_longer(metadata, settings.offset_metadata_chars_max)


def _is_longer(text: str, units_max: int) -> bool:
    """Whether a text has more UTF-16 units than that, which is how Java counts."""
    if len(text) > units_max:
        return True
    return 2 * len(text) > units_max and len(text.encode("utf-16-le", "surrogatepass")) > 2 * units_max


def fetch(event: FetchOffsets, offsets: Offsets, *, known: bool) -> OffsetFetchResponseGroup:
    """A group's offsets, for the topics asked for or for all; none are known of a group that is not `known`.

    A partition whose topic was deleted and made again has none. With `require_stable` a partition that an open
    transaction commits to says UNSTABLE_OFFSET_COMMIT (KIP-447).
    """
    request = event.request
    group_id = request.group_id
    committed = offsets.of_group(group_id) if known else {}
    asked = request.topics
    if asked is None:
        asked = [
            OffsetFetchRequestTopics(name=name, partition_indexes=list(partitions))
            for name, partitions in committed.items()
        ]
    topics = []
    for topic in asked:
        of_topic = committed.get(topic.name, {})
        partitions = []
        for index in topic.partition_indexes:
            if event.require_stable and known and offsets.is_pending(group_id, topic.name, index):
                partitions.append(_no_offset(index, Code.UNSTABLE_OFFSET_COMMIT))
                continue
            offset = of_topic.get(index)
            if offset is None or _is_of_another_topic(offset, topic.topic_id):
                partitions.append(_no_offset(index, Code.NONE))
            else:
                partitions.append(_described(index, offset.value))
        topics.append(OffsetFetchResponseTopics(name=topic.name, topic_id=topic.topic_id, partitions=partitions))
    return OffsetFetchResponseGroup(group_id=group_id, topics=topics)


def _described(index: int, value: OffsetCommitValue) -> OffsetFetchResponsePartitions:
    return OffsetFetchResponsePartitions(
        partition_index=index,
        committed_offset=value.offset,
        committed_leader_epoch=value.leader_epoch,
        metadata=value.metadata,
        error_code=Code.NONE,
    )


def _no_offset(index: int, code: Code) -> OffsetFetchResponsePartitions:
    return OffsetFetchResponsePartitions(
        partition_index=index, committed_offset=NO_OFFSET, metadata="", error_code=code
    )


def _is_of_another_topic(offset: CommittedOffset, topic_id: bytes) -> bool:
    return topic_id not in (ZERO_UUID, offset.value.topic_id) and offset.value.topic_id != ZERO_UUID


def delete(
    request: OffsetDeleteRequest, group: ClassicGroup | ConsumerGroup | ForeignGroup, offsets: Offsets, out: Effects
) -> OffsetDeleteResponse:
    """Delete offsets of a group, except for topics that its members consume (KIP-496)."""
    topics = []
    for topic in request.topics:
        subscribed = group.subscribes(topic.name)
        partitions = []
        for partition in topic.partitions:
            index = partition.partition_index
            code = Code.GROUP_SUBSCRIBED_TO_TOPIC if subscribed else Code.NONE
            partitions.append(OffsetDeleteResponsePartition(partition_index=index, error_code=code))
            if not subscribed and (
                offsets.get(request.group_id, topic.name, index) is not None
                or offsets.is_pending(request.group_id, topic.name, index)
            ):
                out.records.append(offset_tombstone(request.group_id, topic.name, index))
        topics.append(OffsetDeleteResponseTopic(name=topic.name, partitions=partitions))
    return OffsetDeleteResponse(error_code=Code.NONE, throttle_time_ms=0, topics=topics)


def delete_fault(group: ClassicGroup) -> Code | None:
    """Why no offsets of this group may be deleted: it is in use, and what it subscribes to can't be known."""
    return None if group.is_empty or group.uses_consumer_protocol else Code.NON_EMPTY_GROUP


def all_tombstones(group_id: str, offsets: Offsets) -> Iterator[Record]:
    """What ends all offsets of a group, pending ones included."""
    return (offset_tombstone(group_id, topic, partition) for topic, partition in offsets.all_partitions(group_id))


def of_deleted_topic(name: str, topic_id: bytes, offsets: Offsets) -> Iterator[Record]:
    """What ends the offsets of a topic that is gone. One made anew under its name keeps its own."""
    gone = {
        (group_id, partition)
        for group_id, partition, offset in offsets.of_topic(name)
        if offset.value.topic_id in (ZERO_UUID, topic_id)
    }
    return (offset_tombstone(group_id, name, partition) for group_id, partition in sorted(gone))


def expire(group: ClassicGroup | ConsumerGroup, offsets: Offsets, retention_ms: int, now: Now, out: Effects) -> bool:
    """End the offsets whose time is over; whether nothing of the group's offsets is left then (KIP-211).

    They live for offsets.retention.minutes from when a classic group became empty, or, while there are members, where
    nobody was ever a member, and in a consumer group, from their commit. Topics that members consume keep theirs; so
    does everything while a rebalance of a classic group is on. An explicit time to expire, of a commit before version
    5, counts instead.
    """
    group_id = group.group_id
    committed = offsets.of_group(group_id)
    if not committed:
        return not offsets.has_open_transactions(group_id)
    since_ms = None
    if isinstance(group, ClassicGroup):
        since_empty = group.is_empty and group.roster.protocol_type is not None
        if not since_empty and not group.is_simple and not _expires_while_in_use(group):
            return False
        since_ms = group.state_timestamp_ms if since_empty else None
    nothing_left = True
    for topic, partitions in committed.items():
        subscribed = group.subscribes(topic)
        for index, offset in partitions.items():
            if (
                subscribed
                or not _is_over(offset.value, since_ms, retention_ms, now.wall_ms)
                or offsets.is_pending(group_id, topic, index)
            ):
                nothing_left = False
            else:
                out.records.append(offset_tombstone(group_id, topic, index))
    return nothing_left and not offsets.has_open_transactions(group_id)


def _expires_while_in_use(group: ClassicGroup) -> bool:
    if group.roster.protocol_type is None:
        return True
    return group.state is GroupState.STABLE and group.uses_consumer_protocol and group.subscribed_topics is not None


def _is_over(value: OffsetCommitValue, since_ms: int | None, retention_ms: int, now_ms: int) -> bool:
    if value.expire_timestamp != NO_TIMESTAMP:
        return now_ms >= value.expire_timestamp
    return now_ms - (value.commit_timestamp if since_ms is None else since_ms) >= retention_ms
