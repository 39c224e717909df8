"""Failures of the disk: told seldom, mended once in a while, handed on where they are a whole folder's."""

from __future__ import annotations

import errno
import logging
import os
from typing import Any

import pytest

from kpybroker.replication.disk_trouble import RETRY_S, DiskTrouble
from kpybroker.replication.partition import Partition
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.log import Log
from kpybroker.wire.codes import Code, Refused
from tests.replication.surroundings import around, partition_image
from tests.storage.faulty_files import FaultyFiles
from tests.storage.making import TOPIC_ID, batch, config


class HandClock:
    now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return int(self.now_s * 1000)


def failure(number: int) -> StorageFailed:
    return StorageFailed("/data/t-0", OSError(number, os.strerror(number)))


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def trouble(clock: HandClock) -> DiskTrouble:
    clock_: Any = clock
    return DiskTrouble(clock_)


@pytest.fixture
def disk() -> FaultyFiles:
    disk = FaultyFiles()
    disk.make_folder("/data")
    return disk


@pytest.fixture
def partition(trouble: DiskTrouble, disk: FaultyFiles) -> Partition:
    def make() -> Log:
        return Log.create("/data/t-0", topic_id=TOPIC_ID, config=config(), files=disk)

    partition = Partition("t", 0, TOPIC_ID, around(open_log=lambda _: make(), met=trouble.met_by))
    partition.lead(partition_image())
    return partition


def test_a_full_disk_is_told_once_in_a_while(
    trouble: DiskTrouble, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        trouble.met("append to t-0", failure(errno.ENOSPC))
    assert caplog.messages == ["cannot append to t-0: /data/t-0: No space left on device"]
    clock.now_s += 60
    trouble.met("append to t-1", failure(errno.ENOSPC))
    assert caplog.messages[1:] == [
        "cannot append to t-1: /data/t-0: No space left on device (and 999 more like it since the last such line)"
    ]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


@pytest.mark.parametrize(
    ("number", "handed_on"), [(errno.EIO, True), (errno.EROFS, True), (errno.ENOSPC, False), (errno.EMFILE, False)]
)
def test_what_is_a_folders_failure_is_handed_on(trouble: DiskTrouble, number: int, handed_on: bool) -> None:
    heard: list[StorageFailed] = []
    trouble.on_folder_failed = heard.append
    trouble.met("read t-0", failure(number))
    assert bool(heard) is handed_on


def append(partition: Partition, value: bytes) -> int:
    return partition.append(batch(value), now_ms=1).first_offset


def test_a_partition_is_refused_and_goes_on(partition: Partition, disk: FaultyFiles) -> None:
    append(partition, b"a")
    disk.space = 0
    with pytest.raises(Refused) as refused:
        append(partition, b"b")
    assert refused.value.code is Code.KAFKA_STORAGE_ERROR
    disk.space = None
    assert append(partition, b"c") == 1


def test_a_log_that_stopped_half_way_is_mended_when_it_is_used(
    partition: Partition, disk: FaultyFiles, clock: HandClock
) -> None:
    append(partition, b"a")
    partition.log.fail(failure(errno.ENOSPC))
    disk.space = 0
    with pytest.raises(Refused):
        append(partition, b"b")  # there is no room to mend it either
    disk.space = None
    tried = disk.operations
    with pytest.raises(Refused):
        append(partition, b"b")
    assert disk.operations == tried, "not tried again at once"
    clock.now_s += RETRY_S
    with pytest.raises(Refused):
        append(partition, b"b")  # mended now, for the next one
    assert append(partition, b"b") == 1
    assert partition.high_watermark == 2


def test_what_failed_for_good_is_not_mended(partition: Partition, clock: HandClock) -> None:
    append(partition, b"a")
    refused = partition.failed("read", failure(errno.EIO))
    assert refused.code is Code.KAFKA_STORAGE_ERROR
    for _ in range(3):
        clock.now_s += 10
        with pytest.raises(Refused):
            append(partition, b"b")
    assert partition.log.failure is not None


def test_a_log_that_cannot_be_opened_is_not_tried_at_once(trouble: DiskTrouble, clock: HandClock) -> None:
    tries = []

    def opening() -> Log:
        tries.append(clock.now_s)
        raise failure(errno.ENOSPC)

    for step_s in (0.0, RETRY_S / 2, RETRY_S):
        clock.now_s += step_s
        with pytest.raises(StorageFailed):
            trouble.opening(("t", 0), opening)
    assert len(tries) == 2
