"""Index entries that look sound and are wrong: they are found out where they lead, and built anew."""

import pytest

from kpybroker.wire.errors import CorruptRecords

from .making import NOW, append, config, end_transaction, read_all, sequenced

FOLDER = "/data/t-0"
FIRST = f"{FOLDER}/00000000000000000000"
OFTEN = config(index_interval_bytes=0)


def filled(make_log, count=12):
    log = make_log(OFTEN)
    for number in range(count):
        append(log, b"%d" % number * 10, timestamp=NOW + number)
    expected = read_all(log)
    log.close()
    return expected


@pytest.mark.parametrize("entry", range(11))
@pytest.mark.parametrize("shift", [-1, 1, 200])
@pytest.mark.parametrize("field", [0, 4], ids=["offset", "position"])
def test_no_record_is_passed_over(make_log, disk, reopen, entry, field, shift):
    expected = filled(make_log)
    data = bytearray(disk.content(f"{FIRST}.index"))
    at = 8 * entry + field
    data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + shift).to_bytes(4, "big")
    disk.put(f"{FIRST}.index", bytes(data))
    for offset, _ in expected:
        log = reopen(disk.killed(), clean=True, recovery_point=12, config=OFTEN)
        assert read_all(log, offset) == expected[offset:]
        assert log.offset_for_timestamp(NOW + offset).offset == offset


def test_an_index_that_reaches_beyond_the_end(make_log, disk, reopen):
    filled(make_log)
    data = bytearray(disk.content(f"{FIRST}.timeindex"))
    data[-2] ^= 4
    disk.put(f"{FIRST}.timeindex", bytes(data))
    log = reopen(disk, clean=True, recovery_point=12, config=OFTEN)
    assert append(log, b"after", timestamp=NOW + 100).first_offset == 12
    assert log.max_timestamp().offset == 12


def test_a_segment_that_is_cut_short_is_not_passed_over(make_log, disk, reopen):
    log = make_log(config(segment_bytes=300))
    for number in range(9):
        append(log, b"%d" % number * 20)
    log.close()
    disk.put(f"{FIRST}.log", disk.content(f"{FIRST}.log")[:-3])
    log = reopen(disk, clean=True, recovery_point=9, config=config(segment_bytes=300))
    assert len(log.segments.bases) > 2
    with pytest.raises(CorruptRecords, match="ends inside the batch"):
        read_all(log)


def test_a_damaged_transaction_index_is_built_anew(make_log, disk, reopen):
    log = make_log()
    for number in range(4):
        log.append_as_leader(sequenced(7, 0, number, b"v", transactional=True), leader_epoch=0, now_ms=NOW)
        end_transaction(log, 7, 0, commit=number % 2 == 0)
    expected = log.aborted_transactions(0, 8)
    assert len(expected) == 2
    log.close()
    sound = disk.content(f"{FIRST}.txnindex")
    disk.put(f"{FIRST}.txnindex", b"\x01" + sound[1:])
    log = reopen(disk, clean=True, recovery_point=8)
    assert log.aborted_transactions(0, 8) == expected
    assert disk.content(f"{FIRST}.txnindex") == sound
