"""Checkpoints, partition.metadata, names, leader epochs."""

import pytest

from kpybroker.storage import checkpoints, names
from kpybroker.storage.errors import CorruptFile
from kpybroker.storage.leader_epochs import LeaderEpochs


class TestCheckpoints:
    def test_offsets(self):
        offsets = {("a", 0): 5, ("b-c", 12): 0, ("__consumer_offsets", 49): 2**40}
        text = checkpoints.write_offsets(offsets)
        assert text == b"0\n3\na 0 5\nb-c 12 0\n__consumer_offsets 49 1099511627776\n"
        assert checkpoints.read_offsets(text) == offsets
        assert checkpoints.write_offsets({}) == b"0\n0\n"

    def test_epochs(self):
        text = checkpoints.write_epochs([(0, 0), (3, 17)])
        assert text == b"0\n2\n0 0\n3 17\n"
        assert checkpoints.read_epochs(text) == [(0, 0), (3, 17)]

    @pytest.mark.parametrize("text", [b"", b"0\n0\n"])
    def test_empty(self, text):
        assert checkpoints.read_offsets(text) == {}

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(b"1\n0\n", id="another version"),
            pytest.param(b"1", id="another version alone"),
            pytest.param(b"0\nx\n", id="no count"),
            pytest.param(b"0", id="a version alone"),
            pytest.param(b"0\n", id="a version and no count"),
            pytest.param(b"0\n1\na 0 12", id="a number that may have been longer"),
            pytest.param(b"0\n2\na 0 1\n", id="too few entries"),
            pytest.param(b"0\n1\na 0 1\nb 0 1\n", id="too many entries"),
            pytest.param(b"0\n1\na 0\n", id="a short line"),
            pytest.param(b"0\n1\na 0 x\n", id="no number"),
            pytest.param(b"\x00\x00\x00", id="zeros"),
            pytest.param(b"\xff\xfe", id="no text"),
        ],
    )
    def test_garbage(self, text):
        with pytest.raises(CorruptFile):
            checkpoints.read_offsets(text)

    @pytest.mark.parametrize(
        "text", [b"0\n2\n3 0\n3 5\n", b"0\n2\n1 9\n2 5\n", b"0\n1\n-1 0\n", b"0\n1\n0 -5\n", b"0\n1\nx 0\n"]
    )
    def test_epochs_that_make_no_sense(self, text):
        with pytest.raises(CorruptFile):
            checkpoints.read_epochs(text)

    def test_partition_metadata(self):
        text = checkpoints.write_partition_metadata("AAAAAAAAAAAAAAAAAAAAAQ")
        assert text == b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ"
        assert checkpoints.read_partition_metadata(text + b"\n") == "AAAAAAAAAAAAAAAAAAAAAQ"

    @pytest.mark.parametrize(
        "text",
        [b"", b"version: 0", b"version: x\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ", b"version: 0\ntopic_id: short", b"\xff"],
    )
    def test_partition_metadata_that_makes_no_sense(self, text):
        with pytest.raises(CorruptFile):
            checkpoints.read_partition_metadata(text)


class TestNames:
    def test_files(self):
        assert names.file_name(5, names.LOG) == "00000000000000000005.log"
        assert names.offset_of("00000000000000000005.log", names.LOG) == 5
        assert names.offset_of("00000000000000000005.index", names.LOG) is None
        assert names.offset_of("00000000000000000500-0000000001.checkpoint", names.CHECKPOINT) is None
        assert names.leading_offset("00000000000000000007.log.swap") == 7
        assert names.leading_offset("leader-epoch-checkpoint") is None

    def test_doomed_folders_fit_a_file_name(self):
        unique = "0123456789abcdef" * 2
        assert names.doomed_folder("t", 3, unique, "-delete") == f"t-3.{unique}-delete"
        longest = names.doomed_folder("x" * 249, 12345, unique, "-delete")
        assert len(longest) == 255
        assert longest.endswith(f"x-12345.{unique}-delete")


class TestLeaderEpochs:
    def test_assign(self):
        epochs = LeaderEpochs()
        for epoch, start in [(0, 0), (0, 5), (2, 10), (4, 10), (5, 12)]:
            epochs.assign(epoch, start)
        assert epochs.entries == [(0, 0), (4, 10), (5, 12)]
        assert (epochs.latest, epochs.earliest) == (5, (0, 0))

    @pytest.mark.parametrize(
        ("entry", "entries"),
        [
            pytest.param((3, 30), [(1, 10), (2, 20), (3, 30)], id="newer and higher"),
            pytest.param((2, 25), [(1, 10), (2, 20)], id="the same epoch goes on"),
            pytest.param((2, 15), [(1, 10), (2, 15)], id="the same epoch began lower"),
            pytest.param((3, 15), [(1, 10), (3, 15)], id="a newer one lower takes the place of what it contradicts"),
            pytest.param((1, 30), [(1, 30)], id="an older epoch takes the place of all newer ones"),
        ],
    )
    def test_contradictions(self, entry, entries):
        epochs = LeaderEpochs([(1, 10), (2, 20)])
        epochs.assign(*entry)
        assert epochs.entries == entries

    @pytest.mark.parametrize(
        ("epoch", "answer"),
        [
            (-1, (-1, -1)),
            (0, (0, 10)),
            (1, (1, 20)),
            (2, (1, 20)),
            (3, (3, 30)),
            (4, (3, 30)),
            (7, (7, 99)),
            (8, (-1, -1)),
        ],
    )
    def test_end_offset_for(self, epoch, answer):
        assert LeaderEpochs([(1, 10), (3, 20), (7, 30)]).end_offset_for(epoch, 99) == answer

    def test_end_offset_without_any(self):
        assert LeaderEpochs().end_offset_for(0, 99) == (-1, -1)

    @pytest.mark.parametrize(("offset", "epoch"), [(9, None), (10, 1), (19, 1), (20, 3), (99, 3)])
    def test_epoch_of(self, offset, epoch):
        assert LeaderEpochs([(1, 10), (3, 20)]).epoch_of(offset) == epoch

    @pytest.mark.parametrize(
        ("offset", "left"), [(9, []), (10, []), (11, [(1, 10)]), (20, [(1, 10)]), (21, [(1, 10), (3, 20)])]
    )
    def test_truncate_from_end(self, offset, left):
        epochs = LeaderEpochs([(1, 10), (3, 20)])
        epochs.truncate_from_end(offset)
        assert epochs.entries == left

    @pytest.mark.parametrize(
        ("offset", "left"),
        [
            (5, [(1, 10), (3, 20)]),
            (10, [(1, 10), (3, 20)]),
            (11, [(1, 11), (3, 20)]),
            (19, [(1, 19), (3, 20)]),
            (20, [(3, 20)]),
            (35, [(3, 35)]),
        ],
    )
    def test_truncate_from_start(self, offset, left):
        epochs = LeaderEpochs([(1, 10), (3, 20)])
        epochs.truncate_from_start(offset)
        assert epochs.entries == left

    def test_what_is_unwritten(self):
        assert LeaderEpochs().unwritten  # there is no file yet
        epochs = LeaderEpochs([(1, 10)])
        assert not epochs.unwritten
        epochs.assign(2, 20)
        assert epochs.unwritten
        assert epochs.text() == b"0\n2\n1 10\n2 20\n"
        epochs.written()
        assert not epochs.unwritten
        epochs.assign(2, 25)
        epochs.truncate_from_end(30)
        epochs.truncate_from_start(10)
        assert not epochs.unwritten  # none of it changed anything
        epochs.truncate_from_start(11)
        assert epochs.unwritten
