"""Produce (API 0): append record batches to partitions that this node leads.

v3: magic 2 and one batch a partition. v7: zstd. v8: which records of a batch were refused (KIP-467). v10: who leads
instead (KIP-951). v11: TRANSACTION_ABORTABLE. v12: partitions are taken into the transaction by the first Produce
(KIP-890). v13: topic ids (KIP-516).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.names import INTERNAL_TOPICS
from kpybroker.coordinators.txn_verifier import Place, Support, TxnProducer, Verified
from kpybroker.handlers.context import CloseConnection, Later
from kpybroker.security.operations import Operation
from kpybroker.storage.validation import CODE_OF_FAULT, RecordsRefused
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.messages.produce import (
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from kpybroker.wire.records.batch import read_header

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.replication.partition import Partition

ADMIN_CLIENT_ID = "__admin_client"
"""The only client that may write to internal topics (Kafka's own tools for moving offsets use it)."""
ZSTD_SINCE = 7
ALL = -1
"""acks: all replicas in sync."""
LEADER_HINTS_SINCE = 10
ABORTABLE_SINCE = 11
ADDS_PARTITIONS_SINCE = 12
TOPIC_IDS_SINCE = 13
ATTRIBUTES_AT = 22
TRANSACTIONAL = 0x10
WITHOUT_LOG_START = frozenset(
    {
        Code.NOT_LEADER_OR_FOLLOWER,
        Code.MESSAGE_TOO_LARGE,
        Code.RECORD_LIST_TOO_LARGE,
        Code.CORRUPT_MESSAGE,
        Code.KAFKA_STORAGE_ERROR,
    }
)
"""Errors of an append that Kafka answers without the log start offset."""
UNVERIFIABLE = frozenset(
    {
        Code.NETWORK_EXCEPTION,
        Code.COORDINATOR_LOAD_IN_PROGRESS,
        Code.COORDINATOR_NOT_AVAILABLE,
        Code.NOT_COORDINATOR,
    }
)
"""What a coordinator may say that a producer does not expect of a partition; NOT_ENOUGH_REPLICAS makes it try again."""
CUT_OFF = "another may lead, and this node is cut off from who would tell"
"""Said to nobody but the log: an error would have a client ask here who leads, where it is not known."""
LOG_OVERHEAD = 12
"""What stands before a batch's own length: less than that is no batch."""


async def handle(ctx: Context, request: ProduceRequest) -> ProduceResponse | Appended | None:
    """Append, and answer when enough have what was appended; no answer at all to acks=0."""
    if request.acks not in (-1, 0, 1):
        raise Refused(Code.INVALID_REQUIRED_ACKS)
    produce = _Produce(ctx, request)
    if _has_transactional(request):
        if request.transactional_id is None:
            raise Refused(Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        ctx.require(Operation.WRITE, transactional_id=request.transactional_id)
        await produce.verify(request.transactional_id)
    appended = produce.appended
    for topic in request.topic_data:
        produce.topic(topic)
    return appended if appended.awaited else appended.response()


def refuse(request: ProduceRequest, version: int, refused: Refused) -> ProduceResponse:  # noqa: ARG001
    """The same error for every partition."""
    if request.acks == 0:
        raise CloseConnection(f"Produce with acks=0: {refused}")
    return ProduceResponse(
        responses=[
            TopicProduceResponse(
                name=topic.name,
                topic_id=topic.topic_id,
                partition_responses=[
                    _failed(partition.index, refused.code, refused.why or None) for partition in topic.partition_data
                ],
            )
            for topic in request.topic_data
        ]
    )


class Appended(Later):
    """What there is to answer, and which of the appends not enough others have yet. The records are let go of."""

    __slots__ = ("_acks", "appends", "endpoints", "failed", "topics")

    def __init__(self, request: ProduceRequest) -> None:
        super().__init__(request.timeout_ms / 1000)
        self._acks = request.acks
        self.topics: list[TopicProduceResponse] = []
        self.endpoints: list[NodeEndpoint] = []
        self.failed = False
        self.appends: list[_Append] = []

    def wait_for(self, append: _Append) -> None:
        """It is answered when others have it: with acks=all the in-sync replicas, else the disk, if it has to."""
        tell = append.partition.tell_replicated if self._acks == ALL else append.partition.tell_synced
        if tell(append, append.last_offset + 1):
            self.awaited += 1
            self.appends.append(append)

    def response(self) -> ProduceResponse | None:
        """As Later.response: what is not where it has to be by now is answered with REQUEST_TIMED_OUT."""
        for append in self.appends:
            code = append.partition.outcome(append.last_offset, append.leader_epoch, acks_all=self._acks == ALL)
            if code is Code.REQUEST_TIMED_OUT and append.partition.doubtful:
                raise CloseConnection(CUT_OFF)
            if code is not Code.NONE:
                append.answers[append.at] = _failed(append.answers[append.at].index, code)
                self.failed = True
        if self._acks != 0:
            return ProduceResponse(responses=self.topics, node_endpoints=self.endpoints)
        if self.failed:
            raise CloseConnection("an error in a Produce with acks=0")
        return None


class _Append:
    """One that is waited for. A partition holds it weakly, and tells it."""

    __slots__ = ("__weakref__", "answers", "at", "last_offset", "leader_epoch", "of", "partition")

    def __init__(
        self, of: Appended, partition: Partition, last_offset: int, answers: list[PartitionProduceResponse]
    ) -> None:
        """`answers`: of which the next is about it."""
        self.of = of
        self.partition = partition
        self.last_offset = last_offset
        self.leader_epoch = partition.leader_epoch
        self.answers = answers
        self.at = len(answers)

    def set(self) -> None:
        """As Waiter.set."""
        self.of.happened()


class _Produce:
    """One request on its way: what its appends share."""

    def __init__(self, ctx: Context, request: ProduceRequest) -> None:
        self.ctx = ctx
        self.request = request
        self.appended = Appended(request)
        self.verified: Verified | None = None
        """What came of asking the transaction's coordinator; None without a transaction."""
        self.now_ms = ctx.clock.wall_ms()

    async def verify(self, transactional_id: str) -> None:
        """Ask the transaction's coordinator about the batches in it, as far as nothing else is wrong with them.

        Raises: Refused(INVALID_PRODUCER_ID_MAPPING) if they are not all of one producer.
        """
        producers: set[tuple[int, int]] = set()
        batches: dict[Place, int] = {}
        for topic in self.request.topic_data:
            name, refusal = self._name(topic)
            for data in topic.partition_data if refusal is None else ():
                try:
                    header = read_header(self._one_batch(data))
                except Refused:
                    continue
                if header.is_transactional and header.producer_id >= 0:
                    producers.add((header.producer_id, header.producer_epoch))
                    batches[name, data.index] = header.base_sequence
        if len(producers) > 1:
            why = "Transactional records contained more than one producer ID"
            raise Refused(Code.INVALID_PRODUCER_ID_MAPPING, why)
        verifier, before = self.ctx.services.of_broker.txn_verifier, self.ctx.connection.send_answers
        for producer_id, epoch in producers:
            producer = TxnProducer(transactional_id, producer_id, epoch, _support(self.ctx.version))
            self.verified = await verifier.ask_patiently(producer, batches, before)
        self.now_ms = self.ctx.clock.wall_ms()

    def topic(self, topic: TopicProduceData) -> None:
        """Append to each partition of one topic."""
        name, refusal = self._name(topic)
        answers: list[PartitionProduceResponse] = []
        self.appended.topics.append(
            TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=answers)
        )
        for data in topic.partition_data:
            if refusal is not None:
                self.appended.failed = True
                answers.append(_failed(data.index, refusal))
            else:
                answers.append(self._partition(name, data, answers))

    def _name(self, topic: TopicProduceData) -> tuple[str, Code | None]:
        """The topic's name, and why nothing can be appended to any of its partitions."""
        name = topic.name
        if self.ctx.version >= TOPIC_IDS_SINCE:
            known = self.ctx.image.topics.by_id.get(topic.topic_id)
            if known is None:
                return "", Code.UNKNOWN_TOPIC_ID
            name = known.name
        if not self.ctx.allows(Operation.WRITE, topic=name):
            return name, Code.TOPIC_AUTHORIZATION_FAILED
        if name in INTERNAL_TOPICS and self.ctx.client_id != ADMIN_CLIENT_ID and name in self.ctx.image.topics.by_name:
            return name, Code.INVALID_TOPIC_EXCEPTION
        return name, None

    def _partition(
        self, topic: str, data: PartitionProduceData, answers: list[PartitionProduceResponse]
    ) -> PartitionProduceResponse:
        """The next of the answers."""
        try:
            partition = self.ctx.replicas.get(topic, data.index)
            records = self._one_batch(data)
        except Refused as refused:
            return self._refused(topic, data.index, refused)
        if self.request.acks == ALL and partition.doubtful:
            raise CloseConnection(CUT_OFF)
        guard = None
        if self.verified is not None:
            unverified = self.verified.refused.get((topic, data.index))
            if unverified is not None:
                return self._unverified(topic, data.index, unverified)
            guard = self.verified.guards.get((topic, data.index))
        try:
            appended = partition.append(records, now_ms=self.now_ms, guard=guard, acks_all=self.request.acks == ALL)
        except Refused as refused:
            if refused.code in WITHOUT_LOG_START:
                return self._refused(topic, data.index, refused)
            self.appended.failed = True
            return _not_appended(data.index, refused, partition.log.log_start_offset)
        if self.request.acks == ALL or partition.flushing:
            self.appended.wait_for(_Append(self.appended, partition, appended.last_offset, answers))
        return PartitionProduceResponse(
            index=data.index,
            error_code=Code.NONE,
            base_offset=appended.first_offset,
            log_append_time_ms=appended.log_append_time_ms,
            log_start_offset=appended.log_start_offset,
        )

    def _one_batch(self, data: PartitionProduceData) -> memoryview:
        """The records of a partition, if they are exactly one batch that this version may carry.

        Raises: Refused, with Kafka's texts: producers show them to people.
        """
        records, version = data.records, self.ctx.version
        none = f"Produce requests with version {version} must have at least one record batch per partition"
        if not isinstance(records, memoryview) or len(records) < LOG_OVERHEAD:
            raise Refused(Code.INVALID_RECORD, none)
        try:
            header = read_header(records)
        except CorruptRecords as corrupt:
            raise Refused(CODE_OF_FAULT[corrupt.kind], str(corrupt)) from None
        if header.length > len(records):  # a batch that is cut is no batch
            raise Refused(Code.INVALID_RECORD, none)
        only = f"Produce requests with version {version} are only allowed to contain"
        if header.magic != 2:
            raise Refused(Code.INVALID_RECORD, f"{only} record batches with magic version 2")
        if version < ZSTD_SINCE and header.codec == "zstd":
            raise Refused(Code.UNSUPPORTED_COMPRESSION_TYPE)
        if len(records) > header.length:
            raise Refused(Code.INVALID_RECORD, f"{only} exactly one record batch per partition")
        return records

    def _refused(self, topic: str, index: int, refused: Refused) -> PartitionProduceResponse:
        """An error, with who leads instead where that is the news (KIP-951)."""
        self.appended.failed = True
        leader = LeaderIdAndEpoch()
        if refused.code is Code.NOT_LEADER_OR_FOLLOWER and self.ctx.version >= LEADER_HINTS_SINCE:
            hint = self.ctx.leader_hint(topic, index)
            if hint is not None:
                leader = LeaderIdAndEpoch(leader_id=hint.leader_id, leader_epoch=hint.leader_epoch)
                endpoint, endpoints = hint.endpoint, self.appended.endpoints
                if endpoint is not None and all(known.node_id != hint.leader_id for known in endpoints):
                    endpoints.append(
                        NodeEndpoint(node_id=hint.leader_id, host=endpoint.host, port=endpoint.port, rack=hint.rack)
                    )
        return PartitionProduceResponse(index=index, error_code=refused.code, base_offset=-1, current_leader=leader)

    def _unverified(self, topic: str, index: int, code: Code) -> PartitionProduceResponse:
        """A batch that can't be said to be in its transaction."""
        if code is Code.INVALID_TXN_STATE:
            self.appended.failed = True
            return _failed(index, code, "Partition was not added to the transaction")
        ending = code is Code.CONCURRENT_TRANSACTIONS and self.ctx.version < ADDS_PARTITIONS_SINCE
        if ending or code in UNVERIFIABLE:
            self.appended.failed = True
            why = f"Unable to verify the partition has been added to the transaction. Underlying error: {code.name}"
            return _failed(index, Code.NOT_ENOUGH_REPLICAS, why)
        return self._refused(topic, index, Refused(code))


def _support(version: int) -> Support:
    if version >= ADDS_PARTITIONS_SINCE:
        return Support.VERSION_2
    return Support.ABORTABLE if version >= ABORTABLE_SINCE else Support.NONE


def _has_transactional(request: ProduceRequest) -> bool:
    """Whether any batch claims to belong to a transaction (its low attribute byte says so)."""
    return any(
        isinstance(data.records, memoryview)
        and len(data.records) > ATTRIBUTES_AT
        and data.records[ATTRIBUTES_AT] & TRANSACTIONAL
        for topic in request.topic_data
        for data in topic.partition_data
    )


def _failed(index: int, code: Code, why: str | None = None) -> PartitionProduceResponse:
    """An error before anything of the records was looked at."""
    return PartitionProduceResponse(index=index, error_code=code, base_offset=-1, error_message=why)


def _not_appended(index: int, refused: Refused, log_start_offset: int) -> PartitionProduceResponse:
    """What the log has against a batch; where single records are to blame, which ones and what of them (KIP-467)."""
    errors = refused.record_errors if isinstance(refused, RecordsRefused) else ()
    return PartitionProduceResponse(
        index=index,
        error_code=refused.code,
        base_offset=-1,
        log_start_offset=log_start_offset,
        record_errors=[
            BatchIndexAndErrorMessage(batch_index=error.batch_index, batch_index_error_message=error.message)
            for error in errors
        ],
        error_message=refused.why if errors else None,
    )
