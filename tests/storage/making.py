"""What the storage tests build logs and batches with."""

import msgspec

from kpybroker.config import BrokerConfig, topic_config
from kpybroker.storage.log import Log
from kpybroker.storage.log_config import LogConfig
from kpybroker.storage.origin import Origin
from kpybroker.wire.records.batch import build_batch, iter_headers, iter_records
from kpybroker.wire.records.record import Record

NOW = 1_700_000_000_000
TOPIC_ID = bytes(range(1, 17))

# The defaults, but for ages: these tests say what time it is.
CONFIG = topic_config(
    BrokerConfig.load(),
    {"retention.ms": "-1", "max.message.bytes": str(1 << 20), "message.timestamp.after.max.ms": str(2**63 - 1)},
).log


def config(**changes) -> LogConfig:
    return msgspec.structs.replace(CONFIG, **changes)


def batch(*values: bytes, timestamp: int = NOW, **kwargs) -> bytearray:
    """A produced batch with these values, all with one timestamp."""
    return bytearray(build_batch([Record(timestamp=timestamp, value=value) for value in values], **kwargs))


def sequenced(producer_id: int, epoch: int, sequence: int, *values: bytes, **kwargs) -> bytearray:
    """A batch of an idempotent producer."""
    return batch(*values, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence, **kwargs)


def marker(
    producer_id: int, epoch: int, *, commit: bool, coordinator_epoch: int = 0, timestamp: int = NOW
) -> bytearray:
    """A transaction marker as a coordinator writes it."""
    key = (0).to_bytes(2, "big") + int(commit).to_bytes(2, "big")
    value = (0).to_bytes(2, "big") + coordinator_epoch.to_bytes(4, "big")
    records = [Record(timestamp=timestamp, key=key, value=value)]
    return bytearray(
        build_batch(records, producer_id=producer_id, producer_epoch=epoch, transactional=True, control=True)
    )


def append(log: Log, *values: bytes, epoch: int = 0, now_ms: int = NOW, timestamp: int = NOW):
    return log.append_as_leader(batch(*values, timestamp=timestamp), leader_epoch=epoch, now_ms=now_ms)


def end_transaction(log: Log, producer_id: int, epoch: int, *, commit: bool, leader_epoch: int = 0, **kwargs):
    return log.append_as_leader(
        marker(producer_id, epoch, commit=commit, **kwargs),
        leader_epoch=leader_epoch,
        now_ms=NOW,
        origin=Origin.COORDINATOR,
    )


def read_all(log: Log, start: int | None = None) -> list[tuple[int, bytes | None]]:
    """Every record as (offset, value), read by regions of a few bytes at a time."""
    offset = log.log_start_offset if start is None else start
    found = []
    while True:
        result = log.read(offset, bytes_max=1, end_offset=log.log_end_offset)
        if result.region is None:
            return found
        data = result.region.read()
        result.region.release()
        for _, header in iter_headers(data):
            found += [(record.offset, record.value) for record in iter_records(data) if record.offset >= offset]
            assert header.last_offset >= offset
            offset = header.last_offset + 1


def values(log: Log) -> list[bytes | None]:
    return [value for _, value in read_all(log)]
