"""A transactional producer that says exactly what a case wants said, and what can be seen of what it did."""

from __future__ import annotations

from typing import Any

from harness.versions.log_cases import T0, UNKNOWN_ID, batch, new_producer_id
from harness.versions.world import Answer, World
from kpybroker.coordinators.coordinator import partition_of
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.records.batch import iter_headers, iter_records
from kpybroker.wire.records.control import control_type, read_control

OFFSETS = "__consumer_offsets"
OFFSETS_PARTITIONS = 50
IMPLICIT_SINCE = 12
"""The version of Produce that takes partitions into the transaction by itself (transaction version 2)."""
UNTIL_MARKED = ("CompleteCommit", "CompleteAbort")

Part = dict[str, Any]


class TxnActor:
    """One transactional id on a topic of its own (two partitions), at a version of Produce.

    Below version 12 it is a producer of transaction version 1: it adds partitions, and goes on in its epoch. From 12 on
    each transaction has the next epoch.
    """

    def __init__(self, world: World, what: str, version: int = 11) -> None:
        self.world = world
        self.version = version
        self.bumps = version >= IMPLICIT_SINCE
        self.transactional_id = world.name(f"{what}-{version}")
        self.topic = world.topic(f"{what}-{version}", partitions=2)
        self.sequences = [0, 0]
        self.producer_id = self.epoch = -1
        new_producer_id(world)  # the first of all is 0, which answers would not show as an id
        self.init()
        self.init()  # so that there is an older epoch

    # -- what a producer does

    def init(self, timeout_ms: int = 60_000) -> None:
        """Get an id, or the next epoch; until the coordinator is there and done with what was before."""

        def given() -> bool:
            response = self.world.raw(
                ApiKey.INIT_PRODUCER_ID, 4, transactional_id=self.transactional_id, transaction_timeout_ms=timeout_ms
            )
            self.producer_id, self.epoch = response.producer_id, response.producer_epoch
            return bool(response.error_code == 0)

        coordinated = {"key": self.transactional_id, "key_type": 1}
        self.world.until(lambda: self.world.raw(ApiKey.FIND_COORDINATOR, 3, **coordinated).error_code == 0)
        self.world.until(given)
        self.sequences = [0, 0]

    def add(self, *partitions: int) -> Answer:
        """Take partitions of the topic into the transaction, as a producer of version 1 does."""
        topics = [{"name": self.topic, "partitions": list(partitions)}]
        return self.world.ask(
            ApiKey.ADD_PARTITIONS_TO_TXN,
            3,
            v3_and_below_transactional_id=self.transactional_id,
            v3_and_below_producer_id=self.producer_id,
            v3_and_below_producer_epoch=self.epoch,
            v3_and_below_topics=topics,
        )

    def batch(self, count: int = 1, index: int = 0, **header: Any) -> bytes:
        """The next records of a partition, in the transaction."""
        defaults: dict[str, Any] = {
            "producer_id": self.producer_id,
            "producer_epoch": self.epoch,
            "base_sequence": self.sequences[index],
            "transactional": True,
        }
        return batch(count, **{**defaults, **header})

    def send(self, *parts: tuple[int, bytes | None], **request: Any) -> Answer:
        """A Produce, as it is; of this actor's transactional id unless `request` says otherwise."""
        topic_data = {
            "name": self.topic,
            "topic_id": self.world.ids[self.topic],
            "partition_data": [{"index": index, "records": records} for index, records in parts],
        }
        defaults = {"transactional_id": self.transactional_id, "acks": -1, "timeout_ms": 30_000}
        return self.world.ask(ApiKey.PRODUCE, self.version, **{**defaults, "topic_data": [topic_data], **request})

    def write(self, count: int = 1, index: int = 0) -> Answer:
        """What a producer does to write: its next records, after it has added the partition if it must."""
        if not self.bumps:
            self.add(index)
        answer = self.send((index, self.batch(count, index)))
        self.sequences[index] += count
        return answer

    def end(self, *, committed: bool) -> Answer:
        """End the transaction, and wait until it has its markers; the next one begins with the epoch it is given."""
        response = self.world.raw(
            ApiKey.END_TXN,
            5 if self.bumps else 4,
            transactional_id=self.transactional_id,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            committed=committed,
        )
        if self.bumps and response.error_code == 0:
            self.producer_id, self.epoch = response.producer_id, response.producer_epoch
            self.sequences = [0, 0]
        self.until_marked()
        return response.error_code

    def until_marked(self) -> None:
        def marked() -> bool:
            response = self.world.raw(ApiKey.DESCRIBE_TRANSACTIONS, 0, transactional_ids=[self.transactional_id])
            return response.transaction_states[0].transaction_state in UNTIL_MARKED

        self.world.until(marked)

    def commit_offsets(self, version: int, group_id: str, *offsets: tuple[int, int], **request: Any) -> Answer:
        """A TxnOffsetCommit, of offsets in the actor's own topic."""
        partitions = [
            {"partition_index": index, "committed_offset": offset, "committed_metadata": "m"}
            for index, offset in offsets
        ]
        defaults: dict[str, Any] = {
            "transactional_id": self.transactional_id,
            "group_id": group_id,
            "producer_id": self.producer_id,
            "producer_epoch": self.epoch,
            "generation_id_or_member_epoch": -1,
            "topics": [{"name": self.topic, "partitions": partitions}],
        }
        return self.world.ask(ApiKey.TXN_OFFSET_COMMIT, version, **{**defaults, **request})

    def add_offsets(self, group_id: str) -> Answer:
        """Take a group's offsets into the transaction."""
        return self.world.ask(
            ApiKey.ADD_OFFSETS_TO_TXN,
            3,
            transactional_id=self.transactional_id,
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            group_id=group_id,
        )

    # -- what an administrator does

    def mark(self, version: int, *partitions: int, topic: str | None = None, **marker: Any) -> Answer:
        """A WriteTxnMarkers of this producer, behind the coordinator's back."""
        return write_markers(self.world, version, self.marker(*partitions, topic=topic, **marker))

    def marker(self, *partitions: int, topic: str | None = None, **marker: Any) -> Part:
        defaults: dict[str, Any] = {
            "producer_id": self.producer_id,
            "producer_epoch": self.epoch,
            "transaction_result": False,
            "coordinator_epoch": 5,
            "topics": [{"name": topic or self.topic, "partition_indexes": list(partitions)}],
        }
        return {**defaults, **marker}

    # -- what can be seen

    def seen(self, *indexes: int) -> Answer:
        """What readers and administrators see of partitions: ends, records, aborted transactions, producers."""
        return [self._partition(index) for index in indexes or (0,)]

    def _partition(self, index: int) -> Answer:
        return {
            "ends": [self.end_offset(index, isolation_level) for isolation_level in (0, 1)],
            "uncommitted": self.fetched(index, 0),
            "committed": self.fetched(index, 1),
            "producers": self.producers(index),
        }

    def end_offset(self, index: int, isolation_level: int, timestamp: int = -1) -> Answer:
        asked = [{"partition_index": index, "current_leader_epoch": -1, "timestamp": timestamp}]
        topics = [{"name": self.topic, "partitions": asked}]
        response = self.world.raw(ApiKey.LIST_OFFSETS, 7, replica_id=-1, isolation_level=isolation_level, topics=topics)
        partition = response.topics[0].partitions[0]
        return [partition.error_code, partition.offset, partition.timestamp, partition.leader_epoch]

    def fetched(self, index: int, isolation_level: int, version: int = 12) -> Answer:
        """A Fetch of everything, and what the batches in it are."""
        return fetched(self.world, self.topic, index, isolation_level, version)

    def producers(self, index: int) -> Answer:
        """DescribeProducers of one partition; times of markers are left out, they are the broker's."""
        topics = [{"name": self.topic, "partition_indexes": [index]}]
        answer = self.world.ask(ApiKey.DESCRIBE_PRODUCERS, 0, topics=topics)
        (partition,) = answer["topics"][0]["partitions"]
        for producer in partition["activeProducers"]:
            if int(producer["lastTimestamp"]) > T0 + 10**9:
                producer["lastTimestamp"] = "<now>"
        return partition


def write_markers(world: World, version: int, *markers: Part) -> Answer:
    return world.ask(ApiKey.WRITE_TXN_MARKERS, version, markers=list(markers))


def fetched(world: World, topic: str, index: int, isolation_level: int, version: int = 12) -> list[Answer]:
    """Fetches until there is no more: a marker's time is far from its records', so it is in a segment of its own."""
    found: list[Answer] = []
    offset = 0
    while True:
        asked = {"partition": index, "fetch_offset": offset, "partition_max_bytes": 1 << 20}
        asked |= {"last_fetched_epoch": -1, "current_leader_epoch": -1}
        response = world.raw(
            ApiKey.FETCH,
            version,
            replica_id=-1,
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=1 << 20,
            session_epoch=-1,
            isolation_level=isolation_level,
            topics=[{"topic": topic, "topic_id": world.ids.get(topic, UNKNOWN_ID), "partitions": [asked]}],
        )
        partition = response.responses[0].partitions[0]
        aborted = partition.aborted_transactions
        found.append(
            {
                "error": partition.error_code,
                "ends": [partition.high_watermark, partition.last_stable_offset, partition.log_start_offset],
                "aborted": None if aborted is None else [each.first_offset for each in aborted],
                "batches": batches(partition.records),
            }
        )
        headers = [header for _, header in iter_headers(bytes(partition.records or b""))]
        if not headers:
            return found
        offset = headers[-1].next_offset


def batches(data: Any) -> list[Any]:
    """What a log's batches are: offsets, producer's epoch and sequence, kind, and what markers say."""
    data = bytes(data or b"")
    found = []
    for position, header in iter_headers(data):
        batch = [
            header.base_offset,
            header.last_offset_delta,
            header.producer_epoch,
            header.base_sequence,
            header.attributes,
        ]
        if header.is_control:
            (record,) = iter_records(data, position)
            marker = read_control(record)
            batch += [control_type(record).name, record.key.hex(), record.value.hex(), marker.coordinator_epoch >= 0]
        found.append(batch)
    return found


def offsets_partition(group_id: str) -> int:
    """The partition of __consumer_offsets that a group lives in."""
    return partition_of(group_id, OFFSETS_PARTITIONS)
