"""Fetch (API 1): read record batches of partitions that this node holds, waiting for more when there is too little.

Consumers read what is replicated, followers all that there is; what a follower asks for says how far it is.

v4: isolation levels. v5: log start offset. v7: incremental sessions (KIP-227). v9: leader epoch fencing (KIP-320).
v11: reading from followers (KIP-392).
v12: divergence (KIP-595). v13: topic ids (KIP-516). v16: who leads instead (KIP-951).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.replication.fetch_sessions import Fetch, Interest, Key
from kpybroker.replication.machines.follower import Diverged
from kpybroker.replication.machines.leader import Heard
from kpybroker.replication.replica_selection import RACK_AWARE, nearest
from kpybroker.security.operations import Operation
from kpybroker.wire.codec import encode_parts
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.fetch import (
    AbortedTransaction,
    EpochEndOffset,
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
)
from kpybroker.wire.primitives import ZERO_UUID

if TYPE_CHECKING:
    from kpybroker.handlers.account import Account
    from kpybroker.handlers.context import Context
    from kpybroker.replication.partition import Partition
    from kpybroker.replication.replica_log import Read

STORAGE_ERROR_SINCE = 6
SESSIONS_SINCE = 7
FOLLOWERS_SERVE_SINCE = 11
TOPIC_IDS_SINCE = 13
LEADER_HINTS_SINCE = 16
READ_COMMITTED = 1
FULL_FETCH_EPOCH = -1
NOT_THERE = (Code.UNKNOWN_TOPIC_OR_PARTITION, Code.UNKNOWN_TOPIC_ID, Code.TOPIC_AUTHORIZATION_FAILED)


async def handle(ctx: Context, request: FetchRequest) -> FetchResponse:
    """Answer with what there is; with too little of it, wait for more as long as the fetcher allows."""
    if _replica_id(request) >= 0:
        ctx.require(Operation.CLUSTER_ACTION)
    try:
        fetch = _open(ctx, request)
    except Refused as refused:
        return FetchResponse(throttle_time_ms=0, error_code=refused.code, session_id=0, responses=[])
    answer = _Answer(ctx, request, fetch)
    try:
        answer.look()
        while answer.may_wait():
            event = fetch.watch.expect(answer.bytes_min - answer.size)
            limit_s = answer.deadline_s - ctx.clock.monotonic_s()
            happened = await ctx.wait(event, limit_s)
            answer.drop()
            answer.look()
            if not happened:
                break
        return answer.response() if ctx.account is None else answer.metered(ctx.account)
    except BaseException:
        answer.drop()
        raise
    finally:
        fetch.close()


def _replica_id(request: FetchRequest) -> int:
    return request.replica_state.replica_id if request.replica_state.replica_id >= 0 else request.replica_id


def _open(ctx: Context, request: FetchRequest) -> Fetch:
    """The partitions that the request is about, through its session if it has one."""
    by_id = ctx.version >= TOPIC_IDS_SINCE
    interests = [
        Interest(
            (topic.topic_id if by_id else topic.topic, partition.partition),
            partition.fetch_offset,
            partition.partition_max_bytes,
            partition.current_leader_epoch,
            partition.last_fetched_epoch,
            partition.log_start_offset,
        )
        for topic in request.topics
        for partition in topic.partitions
    ]
    forgotten: list[Key] = [
        (topic.topic_id if by_id else topic.topic, partition)
        for topic in request.forgotten_topics_data
        for partition in topic.partitions
    ]
    return ctx.services.of_broker.fetch_sessions.open(
        session_id=request.session_id,
        epoch=request.session_epoch if ctx.version >= SESSIONS_SINCE else FULL_FETCH_EPOCH,
        interests=interests,
        forgotten=forgotten,
        by_topic_id=by_id,
        privileged=_replica_id(request) >= 0,
        now_s=ctx.clock.monotonic_s(),
    )


class _Answer:
    """The response to one fetch while it is put together."""

    def __init__(self, ctx: Context, request: FetchRequest, fetch: Fetch) -> None:
        self.ctx = ctx
        self.fetch = fetch
        self.replica_id = _replica_id(request)
        self.replica = self.replica_id >= 0
        self.replica_epoch = request.replica_state.replica_epoch
        self.heard: Heard | None = None
        """When the follower asked; None once that was told to the partitions."""
        if self.replica:
            session = fetch.session
            self.heard = session.heard if session is not None else Heard(ctx.clock.monotonic_s())
        self.rack = request.rack_id
        if self.rack and ctx.config.replica_selector_class != RACK_AWARE:
            self.rack = ""
        self.committed = request.isolation_level == READ_COMMITTED
        self.bytes_max = min(request.max_bytes, ctx.config.fetch_max_bytes)
        if ctx.account is not None:
            ctx.account.exempt = self.replica
            at_once = None if self.replica else ctx.account.fetch_bytes_max()
            self.bytes_max = self.bytes_max if at_once is None else min(self.bytes_max, int(at_once))
        self.bytes_min = min(request.min_bytes, self.bytes_max)
        self.deadline_s = ctx.clock.monotonic_s() + request.max_wait_ms / 1000
        self.size = 0
        self.urgent = False
        """Whether something is to be told that does not wait for more bytes: an error, a divergence."""
        self.found: list[tuple[Interest, PartitionData]] = []
        self.at_end: list[Interest] = []
        """Of what was found: the partitions that have nothing more once that is told."""
        self.endpoints: dict[int, NodeEndpoint] = {}

    def look(self) -> None:
        """Read from every partition worth it, within the bounds of the request."""
        for interest in self.fetch.ready():
            data = self._partition(interest)
            if data is not None:
                self.found.append((interest, data))
        self.heard = None

    def drop(self) -> None:
        """Forget what was found, to look again or because nobody waits for it any more."""
        for _, data in self.found:
            release = getattr(data.records, "release", None)
            if release is not None:
                release()
        self.found.clear()
        self.at_end.clear()
        self.size, self.urgent = 0, False

    def may_wait(self) -> bool:
        """Whether more bytes are asked for than were found, and there is time and a partition to wait for."""
        return (
            not self.urgent
            and self.size < self.bytes_min
            and self.fetch.size > 0
            and self.ctx.clock.monotonic_s() < self.deadline_s
        )

    def _partition(self, interest: Interest) -> PartitionData | None:
        """What to tell of one partition; None if there is nothing that the fetcher does not know."""
        try:
            partition = self._find(interest)
            read = self._read(partition, interest)
        except Refused as refused:
            return self._refused(interest, refused)
        if isinstance(read, Diverged):
            self.urgent = True
            diverging = EpochEndOffset(epoch=read.epoch, end_offset=read.end_offset)
            return _partition_data(interest, diverging_epoch=diverging)
        if isinstance(read, int):
            return self._elsewhere(partition, interest, read)
        told = (interest.sent_high_watermark, interest.sent_log_start_offset)
        if self.replica and (partition.has_news_for(self.replica_id) or read.log_start_offset > told[1] >= 0):
            self.urgent = True  # it passes them on, or acts on them
        if read.region is None:
            at_end = interest.fetch_offset >= read.end_offset
            if self.fetch.incremental and told == (read.high_watermark, read.log_start_offset):
                if at_end:
                    self.fetch.quiet(interest)
                return None
            if at_end:
                self.at_end.append(interest)
        else:
            self.size += len(read.region)
        return _partition_data(interest, read)

    def _find(self, interest: Interest) -> Partition:
        """The partition, watched from now on. Raises: Refused."""
        topic, index = interest.key
        if isinstance(topic, bytes):
            known = self.ctx.image.topics.by_id.get(topic)
            if known is None:
                raise Refused(Code.UNKNOWN_TOPIC_ID)
            topic = known.name
        if not self.ctx.allows(Operation.READ, topic=topic):
            raise Refused(Code.TOPIC_AUTHORIZATION_FAILED)
        partition = self.ctx.replicas.get(topic, index)
        if interest.watched is not partition:
            if interest.watched is not None:
                interest.watched.unwatch(self.fetch.watch)
            partition.watch(self.fetch.watch, interest.key, follower=self.replica)
            interest.watched = partition
        return partition

    def _read(self, partition: Partition, interest: Interest) -> Read | Diverged | int:
        """What there is; or where the fetcher's log departs from this one; or the broker that it should rather ask."""
        if partition.is_leader or self.replica or self.ctx.version < FOLLOWERS_SERVE_SINCE:
            partition.check_leader(interest.current_leader_epoch)
        else:
            partition.check_epoch(interest.current_leader_epoch)
        if interest.last_fetched_epoch >= 0:
            diverged = partition.divergence(interest.last_fetched_epoch, interest.fetch_offset)
            if diverged is not None:
                return diverged
        if self.replica:
            self._hear(partition, interest)
        elif self.rack and (other := self._nearer(partition, interest)) is not None:
            return other
        room = self.bytes_max - self.size
        held_back = self.replica and self._held_back(partition)
        return partition.read(
            interest.fetch_offset,
            bytes_max=0 if held_back else max(0, min(interest.bytes_max, room)),
            committed=self.committed,
            at_least_one=self.size == 0 and not held_back,  # KIP-74: progress, however small the bounds are
            to_log_end=self.replica,
        )

    def _hear(self, partition: Partition, interest: Interest) -> None:
        """What a follower asks for says how far it is; once a request."""
        if self.heard is not None:
            partition.fetched(
                self.replica_id,
                offset=interest.fetch_offset,
                log_start=interest.log_start_offset,
                broker_epoch=self.replica_epoch,
                says_epoch=interest.current_leader_epoch >= 0,
                heard=self.heard,
            )

    def _held_back(self, partition: Partition) -> bool:
        """Whether a follower that is not in sync gets nothing for now (KIP-73)."""
        throttle, leading = self.ctx.replicas.leader_throttle, partition.leading
        return (
            leading is not None
            and self.replica_id not in leading.isr
            and throttle.holds(partition.topic, partition.index)
            and throttle.exceeded()
        )

    def _nearer(self, partition: Partition, interest: Interest) -> int | None:
        """The follower in the consumer's rack that it should read from."""
        leading = partition.leading
        if leading is None:
            return None
        brokers = self.ctx.image.brokers

        def rack_of(broker_id: int) -> str | None:
            broker = brokers.get(broker_id)
            return None if broker is None or broker.fenced else broker.rack

        return nearest(leading, partition.leader_id, self.rack, interest.fetch_offset, rack_of)

    def _elsewhere(self, partition: Partition, interest: Interest, replica: int) -> PartitionData:
        self.urgent = True
        return PartitionData(
            partition_index=interest.key[1],
            error_code=Code.NONE,
            high_watermark=partition.high_watermark,
            last_stable_offset=partition.last_stable_offset,
            log_start_offset=partition.log.log_start_offset,
            aborted_transactions=None,
            preferred_read_replica=replica,
            records=b"",
        )

    def _refused(self, interest: Interest, refused: Refused) -> PartitionData:
        self.urgent = True
        code = refused.code
        if code is Code.KAFKA_STORAGE_ERROR and self.ctx.version < STORAGE_ERROR_SINCE:
            code = Code.NOT_LEADER_OR_FOLLOWER  # what such clients know to retry
        leader = LeaderIdAndEpoch()
        if code in (Code.NOT_LEADER_OR_FOLLOWER, Code.FENCED_LEADER_EPOCH) and self.ctx.version >= LEADER_HINTS_SINCE:
            leader = self._leader(interest)
        return _partition_data(interest, error_code=code, current_leader=leader)

    def _leader(self, interest: Interest) -> LeaderIdAndEpoch:
        topic, index = interest.key
        if isinstance(topic, bytes):
            topic = self.ctx.image.topics.by_id[topic].name
        hint = self.ctx.leader_hint(topic, index)
        if hint is None:
            return LeaderIdAndEpoch()
        if hint.endpoint is not None:
            self.endpoints[hint.leader_id] = NodeEndpoint(
                node_id=hint.leader_id, host=hint.endpoint.host, port=hint.endpoint.port, rack=hint.rack
            )
        return LeaderIdAndEpoch(leader_id=hint.leader_id, leader_epoch=hint.leader_epoch)

    def metered(self, account: Account) -> FetchResponse:
        """What was found; nothing if the fetcher has to pause, who is told as little as if it had not asked."""
        built = self._built()
        if not self.replica:
            throttle_ms = account.fetched(sum(map(len, encode_parts(built, self.ctx.version))))
            if throttle_ms:
                self.drop()
                session_id = self.fetch.session_id
                if not self.fetch.incremental:  # the fetcher never hears of the session that it asked for
                    self.ctx.services.of_broker.fetch_sessions.close(session_id)
                    session_id = 0
                return FetchResponse(
                    throttle_time_ms=throttle_ms, error_code=Code.NONE, session_id=session_id, responses=[]
                )
        self._told()
        return built

    def response(self) -> FetchResponse:
        """What was found, by topic; the fetcher's session remembers what it was told."""
        self._told()
        return self._built()

    def _built(self) -> FetchResponse:
        topics: list[FetchableTopicResponse] = []
        last: str | bytes | None = None
        for interest, data in self.found:
            topic = interest.key[0]
            if topic != last:
                name, topic_id = ("", topic) if isinstance(topic, bytes) else (topic, ZERO_UUID)
                topics.append(FetchableTopicResponse(topic=name, topic_id=topic_id, partitions=[]))
                last = topic
            topics[-1].partitions.append(data)
        return FetchResponse(
            throttle_time_ms=0,
            error_code=Code.NONE,
            session_id=self.fetch.session_id,
            responses=topics,
            node_endpoints=list(self.endpoints.values()),
        )

    def _told(self) -> None:
        """The fetcher's session remembers what it is told."""
        for interest, data in self.found:
            interest.sent_high_watermark = data.high_watermark
            interest.sent_log_start_offset = data.log_start_offset
            if len(data.records or b""):
                self.fetch.served(interest)
            if self.replica and interest.watched is not None and data.high_watermark >= 0:
                interest.watched.told(self.replica_id, data.high_watermark)
                throttle = self.ctx.replicas.leader_throttle
                if data.records and throttle.holds(interest.watched.topic, interest.watched.index):
                    throttle.record(len(data.records))
        for interest in self.at_end:
            self.fetch.quiet(interest)


def _partition_data(
    interest: Interest,
    read: Read | None = None,
    *,
    error_code: Code = Code.NONE,
    current_leader: LeaderIdAndEpoch | None = None,
    diverging_epoch: EpochEndOffset | None = None,
) -> PartitionData:
    # Kafka's answer for what is not there at all has an empty list, where other errors have null.
    aborted: list[AbortedTransaction] | None = [] if error_code in NOT_THERE else None
    if read is not None and read.aborted is not None:
        aborted = [
            AbortedTransaction(producer_id=transaction.producer_id, first_offset=transaction.first_offset)
            for transaction in read.aborted
        ]
    return PartitionData(
        partition_index=interest.key[1],
        error_code=error_code,
        high_watermark=read.high_watermark if read is not None else -1,
        last_stable_offset=read.last_stable_offset if read is not None else -1,
        log_start_offset=read.log_start_offset if read is not None else -1,
        diverging_epoch=diverging_epoch or EpochEndOffset(),
        current_leader=current_leader or LeaderIdAndEpoch(),
        aborted_transactions=aborted,
        records=read.region if read is not None and read.region is not None else b"",
    )
