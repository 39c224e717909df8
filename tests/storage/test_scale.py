"""A hundred gigabytes in one partition cost no more than one: counted in what is asked of the disk, not in time."""

import random

import pytest

from kpybroker.storage.log import Log
from kpybroker.storage.open_segments import OpenSegments

from .huge_files import BATCH_BYTES, FOLDER, RECORD_MS, SEGMENT_BATCHES, Cost, HugeFiles, timestamp_of
from .making import batch, config

SMALL, LARGE = 1, 100
"""Gigabytes, each a segment; the active one comes besides."""
SEGMENT_MS = SEGMENT_BATCHES * RECORD_MS
SETTINGS = config(segment_ms=2**62)


def opened(disk: HugeFiles, *, clean: bool = True, **settings) -> Log:
    return Log.open(
        FOLDER,
        config=config(segment_ms=2**62, **settings),
        files=disk,
        clean=clean,
        recovery_point=disk.end_offset,
        now_ms=disk.now_ms,
        open_segments=OpenSegments(100, index_bytes_max=2 << 20),
    )


def costs(work, **how) -> tuple[Cost, Cost]:
    """What `work`, given a log and its disk, costs with the small log and with the large one."""
    found = []
    for size in (SMALL, LARGE):
        disk = HugeFiles(size)
        log = opened(disk, **how)
        disk.cost()
        work(log, disk)
        found.append(disk.cost())
    return found[0], found[1]


@pytest.mark.parametrize("clean", [True, False], ids=["after a clean stop", "after a kill"])
def test_opening(clean):
    """Of the batches only what lies behind the recovery point is read; after a kill, the indexes before it as well."""
    found = []
    for size in (SMALL, LARGE):
        disk = HugeFiles(size)
        disk.cost()
        log = opened(disk, clean=clean)
        assert log.log_end_offset == disk.end_offset
        found.append(disk.cost())
    assert found[0] == found[1]
    assert found[0].bytes_read < (1000 if clean else 400_000)


def test_appending():
    """The first append after a start, and more of them."""

    def work(log, disk):
        for number in range(10):
            log.append_as_leader(batch(b"v" * 100, timestamp=disk.now_ms + number), leader_epoch=0, now_ms=disk.now_ms)

    small, large = costs(work)
    assert small == large
    assert large.changes < 15


def test_fetching_anywhere():
    """Of a segment that was not read for long its indexes and a few KiB are read; of one that was, those alone."""
    disk, one = HugeFiles(LARGE), HugeFiles(SMALL)
    log, reference = opened(disk), opened(one)
    one.cost()
    read(reference, 5000)
    cold = one.cost()
    read(reference, 5001)
    warm = one.cost()
    disk.cost()
    chance = random.Random(1)
    for segment in chance.sample(range(LARGE), 30):
        offset = segment * SEGMENT_BATCHES + chance.randrange(SEGMENT_BATCHES)
        read(log, offset)
        assert disk.cost() == cold, offset
        read(log, offset)
        assert disk.cost() == warm, offset
    assert cold.bytes_read < 400_000
    assert warm.bytes_read <= 200  # a header or two


def read(log: Log, offset: int) -> None:
    """What a Fetch asks of a log; the records themselves go by sendfile."""
    found = log.read(offset, bytes_max=1 << 20, end_offset=log.log_end_offset)
    assert found.region is not None
    assert found.region.position == offset % SEGMENT_BATCHES * BATCH_BYTES
    log.aborted_in(offset, found)
    found.region.release()


def test_indexes_of_a_long_log_do_not_stay_in_memory():
    disk = HugeFiles(LARGE)
    log = opened(disk)
    for segment in range(LARGE):
        read(log, segment * SEGMENT_BATCHES + 77)
    entries = sum(len(each.offset_index) + len(each.time_index) for each in log.segments)
    assert entries <= 2 * SEGMENT_BATCHES * 7  # 2 MiB are six segments' indexes, and the one that is being read
    read(log, 50 * SEGMENT_BATCHES + 99)  # and is read again when it is needed


def test_offsets_by_timestamp():
    """The first question after a start looks at the end of each time index before the answer; later ones do not."""
    disk, one = HugeFiles(LARGE), HugeFiles(SMALL)
    log, reference = opened(disk), opened(one)
    disk.cost()
    wanted = (LARGE - 1) * SEGMENT_BATCHES + 1234
    found = log.offset_for_timestamp(timestamp_of(wanted) - 3)
    assert found is not None
    assert (found.offset, found.timestamp) == (wanted, timestamp_of(wanted))
    first = disk.cost()
    one.cost()
    assert reference.offset_for_timestamp(timestamp_of(1234) - 3).offset == 1234
    alone = one.cost()
    assert first.bytes_read - alone.bytes_read <= 24 * LARGE
    assert first.opens - alone.opens <= LARGE
    for segment in (3, 60, 98):
        wanted = segment * SEGMENT_BATCHES + 4321
        assert log.offset_for_timestamp(timestamp_of(wanted)).offset == wanted
        again = disk.cost()
        assert (again.opens, again.bytes_read) <= (alone.opens, alone.bytes_read)


def test_the_greatest_timestamp():
    disk = HugeFiles(LARGE)
    log = opened(disk)
    disk.cost()
    assert log.max_timestamp().offset == disk.end_offset - 1
    assert disk.cost().bytes_read < 24 * LARGE + 500_000
    assert log.max_timestamp().offset == disk.end_offset - 1
    assert disk.cost().bytes_read < 300_000


def test_retention_by_time():
    def work(log, disk):
        assert log.retention(disk.now_ms, disk.end_offset) == 0

    small, large = costs(work, retention_ms=SEGMENT_MS * 200)
    assert small == large
    assert large.bytes_read <= 24

    disk = HugeFiles(LARGE)
    log = opened(disk, retention_ms=SEGMENT_MS * (LARGE - 9))
    disk.cost()
    assert log.retention(disk.now_ms, disk.end_offset) == 9
    cost = disk.cost()
    assert log.log_start_offset == 9 * SEGMENT_BATCHES
    assert cost.bytes_read <= 24 * 10
    assert cost.changes == 3 * 9


def test_retention_by_size():
    """The size of each segment is looked up once."""
    disk = HugeFiles(LARGE)
    log = opened(disk, retention_bytes=(LARGE - 10) << 30)
    disk.cost()
    assert log.retention(disk.now_ms, disk.end_offset) == 10
    first = disk.cost()
    assert first.bytes_read == 0
    assert first.looks <= 2 * LARGE
    assert log.retention(disk.now_ms, disk.end_offset) == 0
    assert disk.cost().looks == 0
