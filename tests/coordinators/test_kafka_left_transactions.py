"""What Apache Kafka 4.3.1 left in `__transaction_state`, loaded: the transactions that its own broker showed."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import pytest

from kpybroker.clock import Now
from kpybroker.coordinators.coordinator import partition_of
from kpybroker.coordinators.loading import load
from kpybroker.coordinators.machines.settings import TransactionSettings
from kpybroker.coordinators.machines.transaction_events import DescribeTransaction
from kpybroker.coordinators.machines.transaction_shard import TransactionShard
from kpybroker.coordinators.machines.transaction_state import to_record
from kpybroker.wire.internal.framing import encode_value
from kpybroker.wire.internal.transaction_records import TransactionLogValue
from kpybroker.wire.messages.describe_transactions import TransactionState
from kpybroker.wire.records.batch import iter_headers, iter_records
from kpybroker.wire.schema import replace

DATA = Path(__file__).parent.parent / "data" / "datadirs"
NOW = Now(0.0, 1_700_000_000_000)
SETTINGS = TransactionSettings(
    timeout_ms_max=900_000,
    id_expiration_ms=604_800_000,
    abort_interval_ms=10_000,
    expiration_interval_ms=3_600_000,
    two_phase_commit=False,
    transaction_version=2,
)


def logs(name: str) -> list[bytes]:
    with tarfile.open(DATA / f"{name}.tar.gz") as archive:
        paths = sorted(path for path in archive.getnames() if "__transaction_state-" in path and path.endswith(".log"))
        files = [archive.extractfile(path) for path in paths]
        return [file.read() for file in files if file is not None]


def in_order(value: TransactionLogValue) -> TransactionLogValue:
    if value.transaction_partitions is None:
        return value
    topics = sorted(value.transaction_partitions, key=lambda each: each.topic)
    return replace(
        value,
        transaction_partitions=[replace(each, partition_ids=sorted(each.partition_ids)) for each in topics],
    )


@pytest.mark.parametrize("name", ["clean", "snapshot"])
async def test_transactions(name: str) -> None:
    manifest = json.loads(gzip.decompress((DATA / f"{name}.manifest.json.gz").read_bytes()))
    shown = manifest["live"]["transactions"]
    shards = []
    for log in logs(name):
        shards.append(TransactionShard(SETTINGS))
        assert await load(shards[-1], [log], lambda: True) is not None
        assert shards[-1].loaded(NOW).actions == [], "nothing was being ended"
    assert sum(len(shard.transactions) for shard in shards) == len(shown)
    for expected in shown:
        shard = shards[partition_of(expected["transactional_id"], len(shards))]
        ((_, found),) = shard.step(DescribeTransaction(expected["transactional_id"], "token"), NOW).replies
        assert isinstance(found, TransactionState)
        assert {
            "transactional_id": found.transactional_id,
            "state": found.transaction_state,
            "producer_id": found.producer_id,
            "producer_epoch": found.producer_epoch,
            "timeout_ms": found.transaction_timeout_ms,
            "partitions": [f"{topic.topic}-{index}" for topic in found.topics for index in topic.partitions],
        } == expected


@pytest.mark.parametrize("name", ["clean", "snapshot"])
def test_records_are_written_as_kafka_writes_them(name: str) -> None:
    """Byte by byte, but for the order of the partitions, which in Kafka is a set's."""
    count = 0
    for log in logs(name):
        shard = TransactionShard(SETTINGS)
        for position, _ in iter_headers(log):
            for record in iter_records(log, position):
                assert record.key is not None
                key, value = shard.decode(record.key, record.value)
                shard.apply(record.offset, -1, key, value)
                if value is None:
                    continue
                assert isinstance(value, TransactionLogValue)
                again = to_record(shard.transactions[key.transactional_id], 2)  # type: ignore[attr-defined]
                assert again.value is not None
                assert encode_value(again.value, again.value_version) == encode_value(in_order(value))
                assert len(encode_value(in_order(value))) == len(record.value or b"")
                count += 1
    assert count > 20
