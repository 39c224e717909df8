"""Segment files that are open: no more than allowed, and the log works all the same."""

from kpybroker.storage.log import Log
from kpybroker.storage.open_segments import OpenSegments

from .faulty_files import FaultyFiles
from .making import NOW, TOPIC_ID, append, config, read_all


def many(disk: FaultyFiles, count: int, most: int) -> list[Log]:
    disk.make_folder("/data")
    open_segments = OpenSegments(most)
    return [
        Log.create(
            f"/data/t-{index}",
            topic_id=TOPIC_ID,
            config=config(segment_bytes=200, preallocate=index % 2 == 1),
            files=disk,
            open_segments=open_segments,
        )
        for index in range(count)
    ]


def how_many(logs: list[Log]) -> int:
    return sum(segment.is_open for log in logs for segment in log.segments)


def test_no_more_are_open_than_allowed() -> None:
    logs = many(FaultyFiles(), 20, 5)
    for number in range(12):
        for log in logs:
            append(log, b"%d" % number * 10)
            assert how_many(logs) <= 5
    for log in logs:
        assert [offset for offset, _ in read_all(log)] == list(range(12))
        assert how_many(logs) <= 5


def test_one_that_is_used_stays_open() -> None:
    logs = many(FaultyFiles(), 20, 5)
    append(logs[0], b"x")
    for log in logs[1:]:
        append(log, b"x")
        append(logs[0], b"x")
        assert logs[0].segments.active.is_open


def test_what_waits_to_be_written_to_an_index_is_not_lost() -> None:
    disk = FaultyFiles()
    logs = many(disk, 2, 1)
    for log in logs:
        log.config = config(index_interval_bytes=0)
    for number in range(50):
        append(logs[number % 2], b"v", timestamp=NOW + number)
    entries = len(logs[0].segments.active.offset_index)
    assert entries == 24
    for log in logs:
        log.close()
    again = Log.open(
        "/data/t-0", config=config(), files=disk, clean=True, recovery_point=logs[0].recovery_point, now_ms=NOW
    )
    assert len(read_all(again)) == 25
    assert len(again.segments.active.offset_index) == entries


def test_a_flush_of_more_than_may_be_open() -> None:
    disk = FaultyFiles()
    (log,) = many(disk, 1, 100)
    log.config = config(segment_bytes=200, index_interval_bytes=0)
    for number in range(30):
        append(log, b"v" * 50, timestamp=NOW + number)
    again = Log.open(
        "/data/t-0",
        config=log.config,
        files=disk,
        clean=False,
        recovery_point=0,
        now_ms=NOW,
        open_segments=OpenSegments(3, index_bytes_max=0),
    )
    again.flush()
    assert again.recovery_point == 30
    assert how_many([again]) <= 3
    assert [offset for offset, _ in read_all(again)] == list(range(30))
