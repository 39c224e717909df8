"""Produce (API 0): append record batches to partitions that this node leads.

v3: magic 2 and one batch a partition. v7: zstd. v8: which records of a batch were refused (KIP-467). v10: who leads
instead (KIP-951). v11: TRANSACTION_ABORTABLE. v12: partitions are taken into the transaction by the first Produce
(KIP-890). v13: topic ids (KIP-516).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kpybroker.cluster.names import INTERNAL_TOPICS
from kpybroker.coordinators.txn_verifier import Place, Support, TxnProducer, Verified
from kpybroker.handlers.context import CloseConnection
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
    import trio

    from kpybroker.handlers.context import Context
    from kpybroker.replication.partition import Partition

ADMIN_CLIENT_ID = "__admin_client"
"""The only client that may write to internal topics (Kafka's own tools for moving offsets use it)."""
ZSTD_SINCE = 7
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
LOG_OVERHEAD = 12
"""What stands before a batch's own length: less than that is no batch."""


Waits: TypeAlias = "list[tuple[trio.Event, Partition, int, int, int]]"
"""Appends that are not on all in-sync replicas (or on the disk, where they have to be) yet: the event, where, the last
offset, and the leader epoch."""


async def handle(ctx: Context, request: ProduceRequest) -> ProduceResponse | None:
    """Append, wait for acks=all, answer; no answer at all to acks=0."""
    if request.acks not in (-1, 0, 1):
        raise Refused(Code.INVALID_REQUIRED_ACKS)
    produce = _Produce(ctx, request)
    if _has_transactional(request):
        if request.transactional_id is None:
            raise Refused(Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        ctx.require(Operation.WRITE, transactional_id=request.transactional_id)
        await produce.verify(request.transactional_id)
    responses = [produce.topic(topic) for topic in request.topic_data]
    if produce.waits:
        await produce.wait_replicated(responses)
    if request.acks == 0:
        if produce.failed:
            raise CloseConnection("an error in a Produce with acks=0")
        return None
    return ProduceResponse(responses=responses, node_endpoints=produce.endpoints)


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


class _Produce:
    """One request on its way: what its appends share."""

    def __init__(self, ctx: Context, request: ProduceRequest) -> None:
        self.ctx = ctx
        self.request = request
        self.failed = False
        self.waits: Waits = []
        self.endpoints: list[NodeEndpoint] = []
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
        if producers:
            await self.ctx.connection.send_answers()
        for producer_id, epoch in producers:
            producer = TxnProducer(transactional_id, producer_id, epoch, _support(self.ctx.version))
            self.verified = await self.ctx.services.of_broker.txn_verifier.ask_patiently(producer, batches)
        self.now_ms = self.ctx.clock.wall_ms()

    def topic(self, topic: TopicProduceData) -> TopicProduceResponse:
        """Append to each partition of one topic."""
        name, refusal = self._name(topic)
        answers = []
        for data in topic.partition_data:
            if refusal is not None:
                self.failed = True
                answers.append(_failed(data.index, refusal))
            else:
                answers.append(self._partition(name, data))
        return TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=answers)

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

    def _partition(self, topic: str, data: PartitionProduceData) -> PartitionProduceResponse:
        try:
            partition = self.ctx.replicas.get(topic, data.index)
            records = self._one_batch(data)
        except Refused as refused:
            return self._refused(topic, data.index, refused)
        guard = None
        if self.verified is not None:
            unverified = self.verified.refused.get((topic, data.index))
            if unverified is not None:
                return self._unverified(topic, data.index, unverified)
            guard = self.verified.guards.get((topic, data.index))
        try:
            appended = partition.append(records, now_ms=self.now_ms, guard=guard, acks_all=self.request.acks == -1)
        except Refused as refused:
            if refused.code in WITHOUT_LOG_START:
                return self._refused(topic, data.index, refused)
            self.failed = True
            return _not_appended(data.index, refused, partition.log.log_start_offset)
        if self.request.acks == -1 or partition.flushing:
            wait = partition.replicated if self.request.acks == -1 else partition.synced
            event = wait(appended.last_offset + 1)
            if event is not None:
                self.waits.append((event, partition, data.index, appended.last_offset, partition.leader_epoch))
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
        self.failed = True
        leader = LeaderIdAndEpoch()
        if refused.code is Code.NOT_LEADER_OR_FOLLOWER and self.ctx.version >= LEADER_HINTS_SINCE:
            hint = self.ctx.leader_hint(topic, index)
            if hint is not None:
                leader = LeaderIdAndEpoch(leader_id=hint.leader_id, leader_epoch=hint.leader_epoch)
                if hint.endpoint is not None and all(known.node_id != hint.leader_id for known in self.endpoints):
                    endpoint = hint.endpoint
                    self.endpoints.append(
                        NodeEndpoint(node_id=hint.leader_id, host=endpoint.host, port=endpoint.port, rack=hint.rack)
                    )
        return PartitionProduceResponse(index=index, error_code=refused.code, base_offset=-1, current_leader=leader)

    def _unverified(self, topic: str, index: int, code: Code) -> PartitionProduceResponse:
        """A batch that can't be said to be in its transaction."""
        if code is Code.INVALID_TXN_STATE:
            self.failed = True
            return _failed(index, code, "Partition was not added to the transaction")
        ending = code is Code.CONCURRENT_TRANSACTIONS and self.ctx.version < ADDS_PARTITIONS_SINCE
        if ending or code in UNVERIFIABLE:
            self.failed = True
            why = f"Unable to verify the partition has been added to the transaction. Underlying error: {code.name}"
            return _failed(index, Code.NOT_ENOUGH_REPLICAS, why)
        return self._refused(topic, index, Refused(code))

    async def wait_replicated(self, responses: list[TopicProduceResponse]) -> None:
        """Wait until every append is on all in-sync replicas; those that are not in time answer REQUEST_TIMED_OUT."""
        deadline_s = self.ctx.clock.monotonic_s() + self.request.timeout_ms / 1000
        late: dict[tuple[str, int], Code] = {}
        for event, partition, index, last_offset, leader_epoch in self.waits:
            await self.ctx.wait(event, deadline_s - self.ctx.clock.monotonic_s())
            code = partition.outcome(last_offset, leader_epoch, acks_all=self.request.acks == -1)
            if code is not Code.NONE:
                late[partition.topic, index] = code
        if late:
            self._take_back(responses, late)

    def _take_back(self, responses: list[TopicProduceResponse], late: dict[tuple[str, int], Code]) -> None:
        self.failed = True
        for topic in responses:
            known = self.ctx.image.topics.by_id.get(topic.topic_id)
            name = known.name if known is not None else topic.name
            topic.partition_responses[:] = [
                _failed(answer.index, late[name, answer.index]) if (name, answer.index) in late else answer
                for answer in topic.partition_responses
            ]


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
