"""What a log knows of its producers, as tables."""

import pytest

from kpybroker.storage.errors import CorruptFile, InvalidTransactionState
from kpybroker.storage.origin import Origin
from kpybroker.storage.producer_snapshots import ProducerSnapshots, decode, encode
from kpybroker.storage.producer_state import BatchSeen, EndMarker, Producer, ProducerStates
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.records.batch import read_header

from .making import NOW, sequenced

DAY = 24 * 3600 * 1000
INT32_MAX = 2**31 - 1


def data(epoch, sequence, count=1, *, transactional=False, producer_id=7):
    return read_header(sequenced(producer_id, epoch, sequence, *[b"x"] * count, transactional=transactional))


def states(*batches) -> ProducerStates:
    """The state after these batches, one after the other in the log."""
    made = ProducerStates("t-0", DAY)
    offset = 0
    for header in batches:
        made.apply_data(header, offset, NOW)
        offset += header.count
        made.end_offset = offset
    return made


OK = None
ORDER, EPOCH, STATE, FENCED = (
    Code.OUT_OF_ORDER_SEQUENCE_NUMBER,
    Code.INVALID_PRODUCER_EPOCH,
    Code.INVALID_TXN_STATE,
    Code.TRANSACTION_COORDINATOR_FENCED,
)


@pytest.mark.parametrize(
    ("before", "header", "code"),
    [
        pytest.param([], data(0, 0), OK, id="the first batch"),
        pytest.param([], data(3, 17), OK, id="any sequence when nothing is known"),
        pytest.param([data(0, 0, 3)], data(0, 3), OK, id="the next one"),
        pytest.param([data(0, 0, 3)], data(0, 4), ORDER, id="a gap"),
        pytest.param([data(0, 0, 3)], data(0, 2), ORDER, id="one that was seen, in another batch"),
        pytest.param([data(0, INT32_MAX)], data(0, 0), OK, id="after the greatest comes 0"),
        pytest.param([data(0, INT32_MAX - 1, 3)], data(0, 1), OK, id="a batch across the wrap"),
        pytest.param([data(0, INT32_MAX)], data(0, 1), ORDER, id="not 1"),
        pytest.param([data(0, 5)], data(1, 0), OK, id="a new epoch begins at 0"),
        pytest.param([data(0, 5)], data(1, 6), ORDER, id="a new epoch does not go on"),
        pytest.param([data(1, 5)], data(0, 6), EPOCH, id="an old epoch"),
        pytest.param([data(0, 0, transactional=True)], data(0, 1), STATE, id="plain, in an open transaction"),
        pytest.param([data(0, 0, transactional=True)], data(0, 1, transactional=True), OK, id="within the transaction"),
    ],
)
def test_a_data_batch(before, header, code):
    made = states(*before)
    check(lambda: made.check_data(header, 9, Origin.CLIENT), code)


def check(call, code):
    if code is None:
        call()
    else:
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.code is code


def test_the_words_of_a_refusal():
    with pytest.raises(Refused) as refused:
        states(data(0, 0, 3)).check_data(data(0, 4), 9, Origin.CLIENT)
    assert str(refused.value).endswith(
        "Out of order sequence number for producer 7 at offset 9 in partition t-0: 4 (incoming seq. number), "
        "2 (current end sequence number)"
    )


@pytest.mark.parametrize(
    ("header", "first_offset"),
    [
        (data(0, 0), None),
        (data(0, 1, 2), 1),
        (data(0, 3), 3),
        (data(0, 6), 6),
        (data(0, 1), None),
        (data(0, 2, 2), None),
        (data(1, 3), None),
        (data(0, 7), None),
        (data(0, 3, producer_id=8), None),
    ],
)
def test_duplicates_among_the_last_five(header, first_offset):
    made = states(data(0, 0), data(0, 1, 2), data(0, 3), data(0, 4), data(0, 5), data(0, 6))
    seen = made.find_duplicate(header)
    assert (seen and seen.first_offset) == first_offset


def test_sequence_numbers_of_a_batch_across_the_wrap():
    assert BatchSeen(1, 10, 3, NOW).first_sequence == INT32_MAX - 1
    assert states(data(0, INT32_MAX - 1, 4)).find_duplicate(data(0, INT32_MAX - 1, 4)) is not None


def test_a_new_epoch_forgets_the_batches():
    made = states(data(0, 0), data(1, 0))
    assert made.find_duplicate(data(0, 0)) is None
    assert (made.active[7].epoch, made.active[7].last_sequence) == (1, 0)


COMMIT, ABORT = EndMarker(True, 3, NOW), EndMarker(False, 3, NOW)


@pytest.mark.parametrize(
    ("before", "epoch", "coordinator_epoch", "version", "code"),
    [
        pytest.param([], 0, 0, 0, OK, id="of a producer not known here"),
        pytest.param([data(2, 0, transactional=True)], 2, 3, 0, OK, id="the epoch of the records"),
        pytest.param([data(2, 0, transactional=True)], 1, 3, 0, EPOCH, id="an older epoch"),
        pytest.param([data(2, 0, transactional=True)], 3, 3, 2, OK, id="version 2: a greater epoch"),
        pytest.param([data(2, 0, transactional=True)], 2, 3, 2, EPOCH, id="version 2: the epoch of the records"),
        pytest.param([data(2, 0, transactional=True)], 1, 3, 2, EPOCH, id="version 2: an older epoch"),
        pytest.param([data(2, 0)], 2, 3, 2, OK, id="version 2: a retry after the transaction ended"),
        pytest.param([data(2**15 - 1, 0, transactional=True)], 2**15 - 1, 3, 2, OK, id="version 2: no greater one"),
    ],
)
def test_a_marker(before, epoch, coordinator_epoch, version, code):
    made = states(*before)
    marker = EndMarker(True, coordinator_epoch, NOW)
    check(lambda: made.check_marker(data(epoch, -1), marker, 9, version), code)


def test_a_marker_of_a_zombie_coordinator():
    made = states(data(0, 0, transactional=True))
    made.apply_marker(data(0, -1), EndMarker(True, 5, NOW), 1)
    check(lambda: made.check_marker(data(0, -1), EndMarker(True, 4, NOW), 2, 0), FENCED)
    check(lambda: made.check_marker(data(0, -1), EndMarker(True, 5, NOW), 2, 0), OK)


def test_the_end_of_a_transaction():
    made = states(data(0, 0, transactional=True), data(0, 0, transactional=True, producer_id=8))
    header = data(0, -1)
    ended = made.ended_by(header, ABORT, 2)
    assert (ended.first_offset, ended.last_offset, ended.aborted) == (0, 2, True)
    assert made.aborted(ended) == (7, 0, 2, 1)
    made.apply_marker(header, ABORT, 2)
    assert (made.first_undecided_offset, made.first_unstable_offset) == (1, 0)
    made.replicated_to(2)
    assert made.first_unstable_offset == 0
    made.replicated_to(3)
    assert made.first_unstable_offset == 1
    assert made.ended_by(header, ABORT, 3) is None
    producer = made.active[7]
    assert (producer.transaction_start, producer.coordinator_epoch, producer.last_sequence) == (None, 3, 0)


def test_a_marker_of_a_greater_epoch_forgets_the_sequence():
    made = states(data(0, 0, transactional=True))
    made.apply_marker(data(1, -1), COMMIT, 1)
    assert (made.active[7].epoch, made.active[7].last_sequence) == (1, -1)
    check(lambda: made.check_data(data(1, 0), 2, Origin.CLIENT), OK)
    check(lambda: made.check_data(data(1, 1), 2, Origin.CLIENT), ORDER)


def test_what_a_follower_takes():
    made = states(data(0, 0, transactional=True))
    made.check_replicated([data(0, 1, transactional=True)])
    made.check_replicated([data(0, 0, producer_id=8)])
    with pytest.raises(InvalidTransactionState):
        made.check_replicated([data(0, 1)])
    with pytest.raises(InvalidTransactionState):
        made.check_replicated([data(0, 0, transactional=True, producer_id=8), data(0, 1, producer_id=8)])


def test_expiry():
    made = states(data(0, 0), data(0, 0, producer_id=8, transactional=True))
    assert made.expire(NOW + DAY - 1) == 0
    assert made.expire(NOW + DAY) == 1
    assert list(made.active) == [8]  # an open transaction keeps its producer


class TestSnapshots:
    def test_the_file(self):
        assert encode([]).hex() == "000148674bc700000000"
        assert decode(encode([])) == []

    def test_only_the_last_batch_is_kept(self):
        made = states(data(2, 0, 3), data(2, 3, transactional=True))
        (producer,) = decode(encode(made.active.values()))
        assert list(producer.batches) == [BatchSeen(3, 3, 0, NOW)]
        assert (producer.producer_id, producer.epoch, producer.coordinator_epoch) == (7, 2, -1)
        assert (producer.last_timestamp, producer.transaction_start) == (NOW, 3)

    def test_a_producer_without_a_batch(self):
        (producer,) = decode(encode([Producer(5, 1, 2, NOW)]))
        assert (producer.last_sequence, producer.last_offset, producer.transaction_start) == (-1, -1, None)

    def test_every_damaged_byte_is_noticed(self):
        good = encode(states(data(0, 0)).active.values())
        for position in range(len(good)):
            damaged = bytearray(good)
            damaged[position] ^= 0xFF
            with pytest.raises(CorruptFile):
                decode(bytes(damaged))

    def test_every_cut_is_noticed(self):
        good = encode(states(data(0, 0)).active.values())
        for length in range(len(good)):
            with pytest.raises(CorruptFile):
                decode(good[:length])

    def test_load(self):
        made = ProducerStates("t-0", DAY)
        made.load([Producer(1, 0, -1, NOW, 30), Producer(2, 0, -1, NOW, 20), Producer(3, 0, -1, NOW - DAY)], 50, NOW)
        assert sorted(made.active) == [1, 2]
        assert (made.first_unstable_offset, made.end_offset) == (20, 50)

    def make(self, disk, *offsets) -> ProducerSnapshots:
        snapshots = ProducerSnapshots(disk, "/data", [])
        for offset in offsets:
            snapshots.write(offset, [Producer(offset)])
        return snapshots

    def test_the_newest_readable_one_is_loaded(self, disk):
        snapshots = self.make(disk, 10, 20, 30, 40)
        disk.put("/data/00000000000000000030.snapshot", b"damaged")
        offset, (producer,) = snapshots.load_newest(0, 35)
        assert (offset, producer.producer_id) == (20, 20)
        assert snapshots.offsets == [10, 20, 40]
        assert not disk.exists("/data/00000000000000000030.snapshot")
        assert snapshots.load_newest(20, 35) is None
        assert snapshots.load_newest(0, 5) is None

    @pytest.mark.parametrize(
        ("segments", "left"),
        [
            ([0, 20], [20, 40]),
            ([0, 10, 40], [10, 40]),
            ([0, 50], []),
            ([], [40]),
        ],
    )
    def test_strays(self, disk, segments, left):
        snapshots = self.make(disk, 10, 20, 30, 40)
        snapshots.remove_strays(segments)
        assert snapshots.offsets == left
        assert sorted(disk.names("/data")) == [f"{offset:020d}.snapshot" for offset in left]

    def test_outside(self, disk):
        snapshots = self.make(disk, 10, 20, 30, 40)
        snapshots.remove_outside(10, 30)
        assert snapshots.offsets == [20, 30]

    def test_listing(self, disk):
        self.make(disk, 10)
        names = [
            *disk.names("/data"),
            "x.snapshot",
            "00000000000000000020.snapshot.deleted",
            "00000000000000000001.log",
        ]
        assert ProducerSnapshots(disk, "/data", names).offsets == [10]
