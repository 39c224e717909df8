"""A partition in memory that does what a test tells it, and the settings that tests start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import trio

from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.storage.verification import Guard
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.records.batch import iter_headers, stamp


class FakeLog:
    """A ShardLog. With `replicas` 1 the high watermark follows every append, otherwise `replicate` moves it."""

    def __init__(self, replicas: int = 1, batch_bytes_max: int = 1 << 20) -> None:
        self.batches: list[bytes] = []
        self.end_offset = 0
        self.replicas = replicas
        self.batch_bytes_max = batch_bytes_max
        self.refuses: Code | None = None
        self.unreadable: Code | None = None
        self.failed = False
        self.guard: Guard | None = None
        self.transaction_version = 0
        self.leader_epoch = 0
        self._high_watermark = 0
        self._moved = trio.Event()
        self.doubtful = False

    @property
    def high_watermark(self) -> int:
        return self._high_watermark

    @property
    def is_empty(self) -> bool:
        return not self.batches

    def append(self, records: bytes, *, guard: Guard | None = None, transaction_version: int = 0) -> int:
        self.guard, self.transaction_version = guard, transaction_version
        if self.refuses is not None:
            raise Refused(self.refuses)
        if len(records) > self.batch_bytes_max:
            raise Refused(Code.MESSAGE_TOO_LARGE)
        batch = bytearray(records)
        ((_, header),) = iter_headers(records)
        stamp(batch, 0, header, base_offset=self.end_offset, leader_epoch=0)
        self.batches.append(bytes(batch))
        self.end_offset += header.last_offset_delta + 1
        if self.replicas == 1:
            self.replicate()
        return self.end_offset - 1

    def replicate(self) -> None:
        """The followers have everything."""
        self._high_watermark = self.end_offset
        self._wake()

    def lose(self) -> None:
        """Leadership is gone: whoever waits or writes hears of it."""
        self.refuses = Code.NOT_LEADER_OR_FOLLOWER
        self._wake()

    def truncate(self) -> None:
        """What no follower has is gone: the next leader has never had it."""
        kept = [each for each in self.batches if _end_of(each) <= self._high_watermark]
        self.batches, self.end_offset = kept, self._high_watermark

    def _wake(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    async def wait_high_watermark(self, offset: int) -> None:
        while self._high_watermark < offset:
            if self.refuses is Code.NOT_LEADER_OR_FOLLOWER:
                raise Refused(self.refuses)
            await self._moved.wait()

    def read_batches(self, from_offset: int) -> Iterator[bytes | memoryview]:
        for batch in self.batches:
            if self.unreadable is not None:
                raise Refused(self.unreadable)
            ((_, header),) = iter_headers(batch)
            if header.next_offset > from_offset:
                yield batch


def _end_of(batch: bytes) -> int:
    ((_, header),) = iter_headers(batch)
    return header.next_offset


@pytest.fixture
def make_log() -> Callable[..., FakeLog]:
    return FakeLog


@pytest.fixture
def settings() -> GroupSettings:
    """Kafka's defaults, but no initial delay."""
    return GroupSettings(
        session_timeout_ms_min=6_000,
        session_timeout_ms_max=1_800_000,
        initial_rebalance_delay_ms=0,
        members_max=2**31 - 1,
        offset_metadata_chars_max=4096,
        offsets_retention_ms=7 * 24 * 3600 * 1000,
        offsets_retention_check_interval_ms=600_000,
        commit_timeout_ms=5_000,
    )
