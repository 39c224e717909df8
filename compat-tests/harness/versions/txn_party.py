"""A transactional producer that says exactly what a story wants said, at any version of each API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from harness.versions.log_cases import new_producer_id
from harness.versions.world import CLOSED, Answer, Wire, World
from kpybroker.coordinators.coordinator import partition_of
from kpybroker.wire.api_keys import APIS, ApiKey
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.framing import decode_transaction_record
from kpybroker.wire.json_form import to_json
from kpybroker.wire.records.batch import BatchHeader, iter_headers, iter_records

NONE = -1
TIMEOUT_MS = 60_000
CLIENTS_ADD_UNTIL = 3
"""The last version of AddPartitionsToTxn that clients use; those from version 4 on are brokers'."""
EPOCH_BUMPED_SINCE = 5
"""The version of EndTxn that is transaction version 2."""
TOGETHER = 200
"""How many requests are sent before the first answer is read."""
PARTITIONS = 50
"""transaction.state.log.num.partitions"""
IN_THE_MIDDLE = ("PrepareCommit", "PrepareAbort")

Partitions = list[tuple[str, int]]


def by_topic(partitions: Partitions) -> list[dict[str, Any]]:
    """As AddPartitionsToTxn has it."""
    topics: dict[str, list[int]] = {}
    for topic, index in partitions:
        topics.setdefault(topic, []).append(index)
    return [{"name": name, "partitions": indexes} for name, indexes in topics.items()]


class Producers:
    """The producers of one story. Producer ids become `producer 1`, `producer 2`, in the order of their appearance."""

    def __init__(self, world: World, version: int, what: str) -> None:
        """`version`: of EndTxn; other APIs have their own at about the same age."""
        self.world = world
        self.version = version
        self.what = f"{what}-{version}"
        self._known: dict[int, str] = {}
        world.until(lambda: world.raw(ApiKey.FIND_COORDINATOR, 3, key=self.what, key_type=1).error_code == 0)
        new_producer_id(world)  # the first block of ids is there

    def producer(self, name: str = "id") -> Producer:
        """Somebody who uses a transactional id. Two of one name use the same."""
        producer = Producer(self, self.world.name(f"{self.what}-{name}"))
        producer.coordinated()
        return producer

    def topic(self, partitions: int = 3) -> str:
        """A topic of the story's own."""
        return self.world.topic(self.what, partitions)

    def at(self, api: ApiKey, last: int | None = None) -> int:
        """The version at which the story asks an API."""
        served = APIS[api].served_broker
        assert served is not None
        return max(served[0], min(self.version, served[1] if last is None else last))

    def ask(self, api: ApiKey, version: int, /, **request: Any) -> Answer:
        """The response, normalised, with producers' names in place of their ids."""
        response = self.world.raw(api, version, **request)
        return CLOSED if response is None else self.normal(to_json(response, version))

    def normal(self, value: Any, key: str = "") -> Answer:
        """Without what differs from run to run."""
        match value:
            case dict():
                return {name: self.normal(each, name) for name, each in value.items()}
            case list():
                ordered = sorted(value) if value and isinstance(value[0], int) else value  # Kafka's are a set's
                items = [self.normal(each, key) for each in ordered]
                return sorted(items, key=json.dumps) if items and isinstance(items[0], dict) else items
        if not isinstance(value, int) or value == NONE:
            return self.world.normal(value, key)
        if key.lower().endswith("producerid"):
            return self._known.setdefault(value, f"producer {len(self._known) + 1}")
        if key.endswith(("TimeMs", "TimestampMs")) and key != "throttleTimeMs":
            return "<time>"
        return self.world.normal(value, key)


class Producer:
    """One user of a transactional id: what it believes to be its producer id and epoch."""

    def __init__(self, story: Producers, transactional_id: str) -> None:
        self.story = story
        self.transactional_id = transactional_id
        self.producer_id = NONE
        self.epoch = NONE

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "transactional_id": self.transactional_id,
            "producer_id": self.producer_id,
            "producer_epoch": self.epoch,
        }

    def init(self, version: int | None = None, **request: Any) -> Answer:
        """InitProducerId."""
        defaults = {
            "transactional_id": self.transactional_id,
            "transaction_timeout_ms": TIMEOUT_MS,
            "producer_id": NONE,
            "producer_epoch": NONE,
        }
        at = self.story.at(ApiKey.INIT_PRODUCER_ID) if version is None else version
        response = self.story.world.raw(ApiKey.INIT_PRODUCER_ID, at, **{**defaults, **request})
        if response.error_code == Code.NONE:
            self.producer_id, self.epoch = response.producer_id, response.producer_epoch
        return self.story.normal(to_json(response, at))

    def init_often(self, times: int) -> None:
        """InitProducerId so many times, each for the next epoch; many are on their way at once."""
        wire = Wire(self.story.world.address)
        request = {
            "transactional_id": self.transactional_id,
            "transaction_timeout_ms": TIMEOUT_MS,
            "producer_id": NONE,
            "producer_epoch": NONE,
        }
        while times > 0:
            together = min(times, TOGETHER)
            for _ in range(together):
                wire.send_only(ApiKey.INIT_PRODUCER_ID, 4, request)
            for _ in range(together):
                assert wire.receive() is not None
            times -= together
        wire.close()

    def init_again(self, **request: Any) -> Answer:
        """InitProducerId with the id and epoch that it has (KIP-360)."""
        return self.init(**{"producer_id": self.producer_id, "producer_epoch": self.epoch, **request})

    def ready(self, **request: Any) -> Answer:
        """InitProducerId, asked again while another transaction is being ended."""
        got: list[Answer] = []

        def answered() -> bool:
            got[:] = [self.init(**request)]
            return bool(got[0]["errorCode"] != Code.CONCURRENT_TRANSACTIONS)

        self.story.world.until(answered)
        return got[0]

    def add(self, *partitions: tuple[str, int], **request: Any) -> Answer:
        """AddPartitionsToTxn: as a client of the first versions, or as the brokers that a newer client writes to."""
        if self.story.version < EPOCH_BUMPED_SINCE:
            return self.add_as_client(*partitions, **request)
        return self.add_as_broker(*partitions, **request)

    def add_as_client(self, *partitions: tuple[str, int], version: int | None = None, **request: Any) -> Answer:
        who = {f"v3_and_below_{key}": value for key, value in {**self.identity, **request}.items()}
        at = self.story.at(ApiKey.ADD_PARTITIONS_TO_TXN, CLIENTS_ADD_UNTIL) if version is None else version
        topics = by_topic(list(partitions))
        return self.story.ask(ApiKey.ADD_PARTITIONS_TO_TXN, at, v3_and_below_topics=topics, **who)

    def add_as_broker(self, *partitions: tuple[str, int], version: int = 5, **request: Any) -> Answer:
        txn = {**self.identity, "verify_only": False, "topics": by_topic(list(partitions)), **request}
        return self.story.ask(ApiKey.ADD_PARTITIONS_TO_TXN, version, transactions=[txn])

    def verify(self, *partitions: tuple[str, int], **request: Any) -> Answer:
        return self.add_as_broker(*partitions, verify_only=True, **request)

    def add_offsets(self, group: str = "group", **request: Any) -> Answer:
        at = self.story.at(ApiKey.ADD_OFFSETS_TO_TXN)
        asked = {**self.identity, "group_id": self.story.world.name(group), **request}
        return self.story.ask(ApiKey.ADD_OFFSETS_TO_TXN, at, **asked)

    def end(self, committed: bool, *, keep: bool = False, version: int | None = None, **request: Any) -> Answer:
        """EndTxn; since version 5 the producer goes on with what the answer says, unless it is not to hear it."""
        at = self.story.version if version is None else version
        asked = {**self.identity, "committed": committed, **request}
        response = self.story.world.raw(ApiKey.END_TXN, at, **asked)
        if response.error_code == Code.NONE and response.producer_id != NONE and not keep:
            self.producer_id, self.epoch = response.producer_id, response.producer_epoch
        return self.story.normal(to_json(response, at))

    def commit(self, **request: Any) -> Answer:
        return self.end(True, **request)

    def abort(self, **request: Any) -> Answer:
        return self.end(False, **request)

    def describe(self) -> Answer:
        answer = self.story.ask(ApiKey.DESCRIBE_TRANSACTIONS, 0, transactional_ids=[self.transactional_id])
        (state,) = answer["transactionStates"]
        return {**state, "topics": sorted(state["topics"], key=json.dumps)}

    def settled(self) -> Answer:
        """What it is described as once no transaction is being ended."""
        got: list[Answer] = []

        def at_rest() -> bool:
            got[:] = [self.describe()]
            return got[0]["transactionState"] not in IN_THE_MIDDLE

        self.story.world.until(at_rest)
        return got[0]

    def coordinated(self) -> None:
        """Wait until the coordinator is there."""
        not_yet = (Code.COORDINATOR_LOAD_IN_PROGRESS, Code.NOT_COORDINATOR, Code.COORDINATOR_NOT_AVAILABLE)
        self.story.world.until(lambda: self.describe()["errorCode"] not in not_yet)

    def mark(self, topic: str, index: int, epoch: int, *, committed: bool = False) -> Answer:
        """WriteTxnMarkers, as an administrator sends it."""
        marker = {
            "producer_id": self.producer_id,
            "producer_epoch": epoch,
            "transaction_result": committed,
            "topics": [{"name": topic, "partition_indexes": [index]}],
            "coordinator_epoch": 0,
        }
        return self.story.ask(ApiKey.WRITE_TXN_MARKERS, 1, markers=[marker])


def records_of(story: Producers, transactional_id: str, *, tail: int | None = None) -> Answer:
    """What __transaction_state has of a transactional id: values, and the versions they are written in.

    `tail`: only so many of the last ones.
    """
    shown: list[Answer] = []
    for header, key, raw, value in transaction_log(story.world, partition_of(transactional_id, PARTITIONS)):
        if key.transactional_id != transactional_id:
            continue
        if raw is None:
            shown.append("a tombstone")
            continue
        fields = to_json(value, raw[1])
        for entry in fields["transactionPartitions"] or ():
            if entry["topic"] == "__consumer_offsets":
                entry["partitionIds"] = ["<partition>"]
        batch = [header.producer_id, header.is_transactional, header.is_control]
        shown.append({"version": raw[1], "batch": batch, "value": fields})
    return [story.normal(each) for each in (shown if tail is None else shown[-tail:])]


def transaction_log(world: World, index: int) -> Iterator[tuple[BatchHeader, Any, bytes | None, Any]]:
    """The records of a partition of __transaction_state: batch, key, raw value, value."""
    offset = 0
    while True:
        asked = {"partition": index, "fetch_offset": offset, "partition_max_bytes": 1 << 20}
        topics = [{"topic": "__transaction_state", "partitions": [asked]}]
        limits = {"max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 20}
        response = world.raw(ApiKey.FETCH, 11, replica_id=-1, session_epoch=-1, topics=topics, **limits)
        partition = response.responses[0].partitions[0]
        for position, header in iter_headers(partition.records):
            # A case takes partition 0 of this very topic into a transaction, so there may be markers.
            for record in () if header.is_control else iter_records(partition.records, position):
                assert record.key is not None
                key, value = decode_transaction_record(record.key, record.value)
                yield header, key, record.value, value
            offset = header.next_offset
        if offset >= partition.high_watermark:
            return
