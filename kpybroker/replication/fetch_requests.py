"""What a follower asks of one leader: a fetch session as its user keeps it (KIP-227), and the requests themselves.

A session's requests name only what has changed since the last one: a follower of ten thousand quiet partitions sends,
and its leader reads, a few dozen bytes. A leader that grants no session (id 0) gets everything each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kpybroker.wire.codes import Code
from kpybroker.wire.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchTopic,
    ForgottenTopic,
    ReplicaState,
)
from kpybroker.wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic

if TYPE_CHECKING:
    from kpybroker.config import BrokerConfig
    from kpybroker.replication.partition import Partition

Key = tuple[bytes, int]
"""A partition: topic id and index."""

REPLICA_STATE_SINCE = 15
EPOCH_MAX = 2**31 - 1
LATEST = -1
EARLIEST = -2


class Session:
    """One fetch session, from the side of who fetches."""

    def __init__(self) -> None:
        self.id = 0
        self.epoch = 0
        """0: the next request is a full one, and asks for a session."""

    @property
    def incremental(self) -> bool:
        """Whether the next request names only what has changed."""
        return self.epoch > 0

    def answered(self, code: Code, session_id: int) -> None:
        """The answer to the request at hand has this error code and session id."""
        if code is Code.FETCH_SESSION_ID_NOT_FOUND:
            self.id = self.epoch = 0
        elif code is not Code.NONE:
            self.epoch = 0
        elif session_id == 0:
            self.id = self.epoch = 0
        else:
            self.id = session_id
            self.epoch = 1 if self.epoch == EPOCH_MAX else self.epoch + 1

    def lost(self) -> None:
        """No answer came: nobody knows what the leader has heard. A full request ends that session."""
        self.epoch = 0


def fetch_request(
    config: BrokerConfig,
    session: Session,
    positions: Iterable[tuple[Key, FetchPartition]],
    forgotten: Iterable[Key],
    *,
    me: int,
    broker_epoch: int,
    version: int,
) -> FetchRequest:
    """A follower's fetch of these positions."""
    topics: dict[bytes, list[FetchPartition]] = {}
    for (topic_id, _), position in positions:
        topics.setdefault(topic_id, []).append(position)
    gone: dict[bytes, list[int]] = {}
    for topic_id, index in forgotten:
        gone.setdefault(topic_id, []).append(index)
    with_state = version >= REPLICA_STATE_SINCE
    return FetchRequest(
        replica_id=-1 if with_state else me,
        replica_state=ReplicaState(replica_id=me, replica_epoch=broker_epoch) if with_state else ReplicaState(),
        max_wait_ms=config.replica_fetch_wait_max_ms,
        min_bytes=config.replica_fetch_min_bytes,
        max_bytes=config.replica_fetch_response_max_bytes,
        session_id=session.id,
        session_epoch=session.epoch,
        topics=[FetchTopic(topic_id=topic_id, partitions=partitions) for topic_id, partitions in topics.items()],
        forgotten_topics_data=[ForgottenTopic(topic_id=topic_id, partitions=each) for topic_id, each in gone.items()],
    )


def position(partition: Partition, partition_bytes_max: int) -> FetchPartition:
    """Where a follower's log ends, and which epoch its last record has. Raises: Refused(KAFKA_STORAGE_ERROR)."""
    log = partition.log
    latest = log.latest_epoch
    return FetchPartition(
        partition=partition.index,
        current_leader_epoch=partition.leader_epoch,
        fetch_offset=log.log_end_offset,
        last_fetched_epoch=-1 if latest is None else latest,
        log_start_offset=log.log_start_offset,
        partition_max_bytes=partition_bytes_max,
    )


def ends_request(partition: Partition, timestamp: int, me: int) -> ListOffsetsRequest:
    """A follower asks where the leader's log begins (EARLIEST) or ends (LATEST)."""
    asked = ListOffsetsPartition(
        partition_index=partition.index, current_leader_epoch=partition.leader_epoch, timestamp=timestamp
    )
    return ListOffsetsRequest(
        replica_id=me, isolation_level=0, topics=[ListOffsetsTopic(name=partition.topic, partitions=[asked])]
    )
