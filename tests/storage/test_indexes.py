"""Offset, time and transaction index: what they find, and what is in their files."""

import pytest

from kpybroker.storage.errors import CorruptFile, StorageFailed
from kpybroker.storage.index_file import IndexFile
from kpybroker.storage.offset_index import OffsetIndex
from kpybroker.storage.time_index import TimeIndex
from kpybroker.storage.txn_index import AbortedTxn, TxnIndex

PATH = "/data/index"


def offset_index(disk, entries=(), base=100):
    index = OffsetIndex(disk, PATH, base)
    for offset, position in entries:
        index.append(offset, position)
    return index


def time_index(disk, entries=(), base=100):
    index = TimeIndex(disk, PATH, base)
    for timestamp, offset in entries:
        index.maybe_append(timestamp, offset)
    return index


ENTRIES = [(110, 4100), (120, 8200), (130, 12300)]


class TestOffsetIndex:
    @pytest.mark.parametrize(
        ("offset", "position"),
        [(100, 0), (109, 0), (110, 4100), (119, 4100), (120, 8200), (130, 12300), (10_000, 12300)],
    )
    def test_lookup(self, disk, offset, position):
        assert offset_index(disk, ENTRIES).lookup(offset) == position

    @pytest.mark.parametrize(("position", "offset"), [(0, 110), (4100, 110), (4101, 120), (12300, 130), (12301, None)])
    def test_upper_bound(self, disk, position, offset):
        assert offset_index(disk, ENTRIES).upper_bound(position) == offset

    def test_the_file(self, disk):
        index = offset_index(disk, ENTRIES[:2])
        assert not disk.exists(PATH)
        index.file.spill()
        assert disk.content(PATH).hex() == "0000000a000010040000001400002008"
        loaded = OffsetIndex(disk, PATH, 100)
        loaded.load(20_000)
        assert loaded.entries == ENTRIES[:2]
        loaded.append(*ENTRIES[2])
        loaded.file.spill()
        assert (len(disk.content(PATH)), loaded.last_offset) == (24, 130)

    @pytest.mark.parametrize(("offset", "left"), [(100, 0), (110, 0), (111, 1), (120, 1), (121, 2), (130, 2), (131, 3)])
    @pytest.mark.parametrize("written", [0, 1, 3])
    def test_truncate(self, disk, offset, left, written):
        index = offset_index(disk, ENTRIES[:written])
        index.file.spill()
        for entry in ENTRIES[written:]:
            index.append(*entry)
        index.truncate_to(offset)
        assert index.entries == ENTRIES[:left]
        index.append(200, 20_000)
        index.file.spill()
        loaded = OffsetIndex(disk, PATH, 100)
        loaded.load(30_000)
        assert loaded.entries == [*ENTRIES[:left], (200, 20_000)]

    def test_a_preallocated_tail_is_ignored_and_trimmed(self, disk):
        offset_index(disk, ENTRIES).file.spill()
        disk.put(PATH, disk.content(PATH) + bytes(1000))
        index = OffsetIndex(disk, PATH, 100)
        index.load(20_000)
        assert index.entries == ENTRIES
        index.append(140, 16_384)
        index.file.spill()
        assert len(disk.content(PATH)) == 32

    def test_an_entry_that_ends_in_zeros_is_no_tail(self, disk):
        offset_index(disk, [(110, 0x10000)]).file.spill()
        index = OffsetIndex(disk, PATH, 100)
        index.load(0x20000)
        assert index.entries == [(110, 0x10000)]

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param("0000000a", id="half an entry"),
            pytest.param("0000000a000010040000000a00002008", id="the same offset twice"),
            pytest.param("0000000a000010040000000b00001004", id="the same position twice"),
            pytest.param("ffffffffffffffff", id="below the base offset"),
            pytest.param("0000000a00005000", id="behind the end of the log"),
        ],
    )
    def test_garbage(self, disk, content):
        disk.put(PATH, bytes.fromhex(content))
        with pytest.raises(CorruptFile):
            OffsetIndex(disk, PATH, 100).load(0x5000)

    def test_missing(self, disk):
        with pytest.raises(CorruptFile):
            OffsetIndex(disk, PATH, 100).load(0)

    def test_a_reset_index_replaces_the_old_file(self, disk):
        index = offset_index(disk, ENTRIES)
        index.file.spill()
        index.reset()
        index.append(105, 77)
        index.file.spill()
        assert disk.content(PATH).hex() == "000000050000004d"
        index.reset()
        index.file.spill()
        assert disk.content(PATH) == b""


class TestTimeIndex:
    @pytest.mark.parametrize(
        ("timestamp", "offset"), [(0, 100), (999, 100), (1000, 110), (1001, 110), (2000, 120), (9000, 120)]
    )
    def test_lookup(self, disk, timestamp, offset):
        assert time_index(disk, [(1000, 110), (2000, 120)]).lookup(timestamp) == offset

    def test_only_greater_timestamps_are_added(self, disk):
        index = time_index(disk, [(-1, 105), (1000, 110), (1000, 112), (900, 115), (2000, 120)])
        assert index.entries == [(1000, 110), (2000, 120)]
        assert index.last == (2000, 120)
        assert time_index(disk).last == (-1, 100)

    def test_the_file(self, disk):
        time_index(disk, [(1000, 110), (2000, 120)]).file.spill()
        assert disk.content(PATH).hex() == "00000000000003e80000000a00000000000007d000000014"
        disk.put(PATH, disk.content(PATH) + bytes(120))
        loaded = TimeIndex(disk, PATH, 100)
        loaded.load()
        assert loaded.entries == [(1000, 110), (2000, 120)]

    @pytest.mark.parametrize(("offset", "left"), [(100, 0), (110, 0), (111, 1), (120, 1), (121, 2)])
    def test_truncate(self, disk, offset, left):
        index = time_index(disk, [(1000, 110), (2000, 120)])
        index.truncate_to(offset)
        assert len(index) == left

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param("00000000000003e800", id="part of an entry"),
            pytest.param("00000000000003e80000000a00000000000003e800000014", id="the same timestamp twice"),
            pytest.param("00000000000003e80000000a00000000000007d000000009", id="offsets that fall"),
            pytest.param("ffffffffffffffff00000001", id="a negative timestamp"),
        ],
    )
    def test_garbage(self, disk, content):
        disk.put(PATH, bytes.fromhex(content))
        with pytest.raises(CorruptFile):
            TimeIndex(disk, PATH, 100).load()


class TestIndexFile:
    def test_a_failed_write_loses_nothing(self, disk):
        file = IndexFile(disk, PATH, 8)
        file.pending += b"12345678"
        disk.fail_at = {disk.operations + 2: 5}
        with pytest.raises(StorageFailed):
            file.spill()
        file.pending += b"abcdefgh"
        file.spill()
        assert disk.content(PATH) == b"12345678abcdefgh"

    def test_it_is_due_after_some_entries(self, disk):
        file = IndexFile(disk, PATH, 8)
        for _ in range(511):
            file.pending += b"12345678"
        assert not file.spill_due
        file.pending += b"12345678"
        assert file.spill_due


FIRST = AbortedTxn(1, 100, 110, 105)
SECOND = AbortedTxn(2, 105, 120, 121)


class TestTxnIndex:
    def index(self, disk, *entries):
        index = TxnIndex(disk, PATH, 100, exists=False)
        for entry in entries:
            index.append(entry)
        return index

    def test_there_is_no_file_without_entries(self, disk):
        assert self.index(disk).entries == []
        assert not disk.exists(PATH)

    def test_the_file(self, disk):
        self.index(disk, FIRST)
        assert disk.content(PATH).hex() == f"0000{1:016x}{100:016x}{110:016x}{105:016x}"
        assert TxnIndex(disk, PATH, 100, exists=True).entries == [FIRST]

    @pytest.mark.parametrize(
        ("first", "end", "found", "complete"),
        [
            (100, 200, [FIRST, SECOND], False),
            (111, 200, [SECOND], False),
            (100, 105, [FIRST], True),
            (100, 106, [FIRST, SECOND], True),
            (121, 200, [], False),
        ],
    )
    def test_collect(self, disk, first, end, found, complete):
        into = []
        assert self.index(disk, FIRST, SECOND).collect(first, end, into) is complete
        assert into == found

    @pytest.mark.parametrize(("offset", "left"), [(100, []), (110, []), (111, [FIRST]), (121, [FIRST, SECOND])])
    def test_truncate(self, disk, offset, left):
        self.index(disk, FIRST, SECOND).truncate_to(offset)
        index = TxnIndex(disk, PATH, 100, exists=True)
        assert index.entries == left

    def test_a_torn_entry_is_ignored_and_overwritten(self, disk):
        index = self.index(disk, FIRST)
        disk.fail_at = {disk.operations + 1: 5}
        index.append(SECOND)
        assert len(disk.content(PATH)) == 34 + 17
        assert TxnIndex(disk, PATH, 100, exists=True).entries == [FIRST]
        assert index.entries == [FIRST, SECOND]
        index.spill()
        assert TxnIndex(disk, PATH, 100, exists=True).entries == [FIRST, SECOND]

    @pytest.mark.parametrize("content", [bytes([0, 1]) + bytes(32), bytes(34)], ids=["version 1", "below the base"])
    def test_garbage(self, disk, content):
        disk.put(PATH, content)
        with pytest.raises(CorruptFile):
            _ = TxnIndex(disk, PATH, 100, exists=True).entries

    def test_reset(self, disk):
        index = self.index(disk, FIRST)
        index.reset()
        assert index.entries == []
        index.spill()
        assert not disk.exists(PATH)
