"""What recovery drops of a damaged log is kept beside it, unless it is only a batch that was being written."""

import pytest

from .making import NOW, append, batch, config, read_all, values

FOLDER = "/data/t-0"
FIRST = f"{FOLDER}/00000000000000000000.log"
SEGMENTS = config(segment_bytes=250, index_interval_bytes=0)


def dropped(disk) -> dict[str, bytes]:
    return {name: disk.content(f"{FOLDER}/{name}") for name in disk.names(FOLDER) if name.startswith("dropped-")}


def flipped(data: bytes, at: int, mask: int = 1) -> bytes:
    damaged = bytearray(data)
    damaged[at] ^= mask
    return bytes(damaged)


def filled(make_log, disk, settings, count=6):
    log = make_log(settings)
    for number in range(count):
        append(log, b"%d" % number * 20)
    return log


def test_a_damaged_middle(make_log, disk, reopen, caplog):
    filled(make_log, disk, config())
    whole = disk.content(FIRST)
    one = len(whole) // 6
    damaged = flipped(whole, 2 * one + 70)
    disk.put(FIRST, damaged)
    again = reopen(disk, clean=False)
    assert values(again) == [b"0" * 20, b"1" * 20]
    assert dropped(disk) == {f"dropped-00000000000000000000.{2 * one}": damaged[2 * one :]}
    assert f"dropped {4 * one} bytes from offset 2 on" in caplog.text
    append(again, b"after")
    again.close()
    assert [offset for offset, _ in read_all(reopen(disk, clean=True, recovery_point=3))] == [0, 1, 2]


def test_later_segments(make_log, disk, reopen):
    log = filled(make_log, disk, SEGMENTS)
    assert log.segments.bases == [0, 2, 4]
    paths = [f"{FOLDER}/{base:020d}.log" for base in log.segments.bases]
    before = [disk.content(path) for path in paths]
    disk.put(paths[0], flipped(before[0], len(before[0]) - 1))
    again = reopen(disk, clean=False, config=SEGMENTS)
    assert again.segments.bases == [0]
    assert dropped(disk) == {
        f"dropped-00000000000000000000.{len(before[0]) // 2}": flipped(before[0], len(before[0]) - 1)[
            len(before[0]) // 2 :
        ],
        "dropped-00000000000000000002.0": before[1],
        "dropped-00000000000000000004.0": before[2],
    }


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        pytest.param(lambda batch: batch[:70], False, id="a batch cut short"),
        pytest.param(lambda batch: batch[:10], False, id="a header cut short"),
        pytest.param(lambda _: bytes(5000), False, id="zeros"),
        pytest.param(lambda batch: batch[:70] + bytes(5000), False, id="a batch cut short in a preallocated file"),
        pytest.param(lambda batch: flipped(batch, 70), True, id="a wrong checksum"),
        pytest.param(lambda batch: flipped(batch, 70) + bytes(5000), True, id="the same in a preallocated file"),
        pytest.param(lambda batch: flipped(batch, 9) + batch, True, id="a length that reaches over another batch"),
        pytest.param(lambda _: b"garbage" * 20, True, id="garbage"),
    ],
)
def test_what_is_but_torn_is_not_kept(make_log, disk, reopen, tail, kept):
    filled(make_log, disk, config(), count=2)
    whole = disk.content(FIRST)
    disk.put(FIRST, whole + tail(whole[len(whole) // 2 :]))
    assert len(values(reopen(disk, clean=False))) == 2
    assert disk.content(FIRST) == whole
    assert bool(dropped(disk)) is kept


def test_twice_at_the_same_place(make_log, disk, reopen):
    log = make_log()
    for content in (b"first", b"second"):
        append(log, content)
        disk.put(FIRST, flipped(disk.content(FIRST), 70))
        log = reopen(disk, clean=False)
    assert set(dropped(disk)) == {"dropped-00000000000000000000.0", "dropped-00000000000000000000.0.2"}


def test_a_crash_at_any_moment_loses_nothing(make_log, disk, reopen):
    filled(make_log, disk, SEGMENTS)
    disk.put(FIRST, flipped(disk.content(FIRST), 70))
    wanted = {disk.content(f"{FOLDER}/{base:020d}.log") for base in (0, 2, 4)}
    steps = 0
    while True:
        steps += 1
        crashed = disk.killed()
        crashed.fail_from = steps
        try:
            reopen(crashed, clean=False, config=SEGMENTS)
        except Exception:
            again = crashed.killed()
            assert values(reopen(again, clean=False, config=SEGMENTS)) == []
            assert wanted <= set(dropped(again).values()), steps
        else:
            break
    assert steps > 10


def test_a_full_disk_does_not_keep_the_log_shut(make_log, disk, reopen, caplog):
    filled(make_log, disk, config())
    disk.put(FIRST, flipped(disk.content(FIRST), 70))
    disk.space = 100
    assert values(reopen(disk, clean=False)) == []
    assert "they are lost" in caplog.text
    assert not dropped(disk)


def test_compaction_and_retention_pass_over_it(make_log, disk, reopen):
    filled(make_log, disk, SEGMENTS)
    disk.put(FIRST, flipped(disk.content(FIRST), 70))
    log = reopen(disk, clean=False, config=config(segment_bytes=250, index_interval_bytes=0, retention_ms=1))
    before = dropped(disk)
    log.append_as_leader(batch(b"old", timestamp=NOW), leader_epoch=0, now_ms=NOW)
    log.retention(NOW + 10**9, log.log_end_offset)
    log.purge(NOW + 10**10)
    assert dropped(disk) == before
