"""Transactions that are verified before their first record is written, as transcripts at one log's producers."""

import pytest

from kpybroker.storage.origin import Origin
from kpybroker.storage.producer_state import EndMarker, ProducerStates
from kpybroker.storage.verification import QUESTIONS_MAX, UNVERIFIED, Verifications
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.records.batch import read_header
from kpybroker.wire.records.control import build_marker_batch

from .making import NOW, sequenced

DAY = 24 * 3600 * 1000


class LogOfProducers:
    """What a leader's append does with the producers, without the log."""

    def __init__(self):
        self.producers = ProducerStates("t-0", DAY)
        self.end = 0

    def ask(self, epoch=0, sequence=0, *, bumps_epoch=False, now_ms=NOW):
        return self.producers.begin_verification(7, epoch, sequence, bumps_epoch=bumps_epoch, now_ms=now_ms)

    def append(self, guard, epoch=0, sequence=0, count=1):
        """The code that a client's transactional batch is refused with, None if it is in the log."""
        header = read_header(sequenced(7, epoch, sequence, *[b"x"] * count, transactional=True))
        try:
            self.producers.check_verified(header, guard)
            self.producers.check_data(header, self.end, Origin.CLIENT)
        except Refused as refused:
            return refused.code
        self.producers.apply_data(header, self.end, NOW)
        self.end += count
        return None

    def end_transaction(self, epoch=0):
        header = read_header(
            build_marker_batch(commit=False, coordinator_epoch=0, producer_id=7, producer_epoch=epoch, timestamp_ms=NOW)
        )
        self.producers.apply_marker(header, EndMarker(False, 0, NOW), self.end)
        self.end += 1


@pytest.fixture
def log():
    return LogOfProducers()


def test_only_what_was_verified_opens_a_transaction(log):
    assert log.append(None) is Code.INVALID_TXN_STATE
    guard = log.ask()
    assert log.append(None) is Code.INVALID_TXN_STATE
    assert log.append(guard) is None


def test_within_an_open_transaction_nobody_is_asked(log):
    log.append(log.ask())
    assert log.ask() is None
    assert log.append(None, sequence=1) is None


def test_two_batches_on_their_way_share_a_question(log):
    assert log.ask() is log.ask(sequence=1)


def test_a_marker_in_between_makes_the_answer_worthless(log):
    """The next transaction of the same epoch is another one: what was verified for the first may not open it."""
    stale = log.ask()
    log.end_transaction()
    assert log.append(stale) is Code.INVALID_TXN_STATE
    fresh = log.ask()
    assert fresh is not stale
    assert log.append(stale) is Code.INVALID_TXN_STATE
    assert log.append(fresh) is None


def test_a_late_record_of_an_aborted_transaction_opens_none(log):
    log.append(log.ask())
    log.end_transaction()
    assert log.append(None, sequence=1) is Code.INVALID_TXN_STATE


def test_the_marker_of_the_last_transaction_leaves_the_next_ones_question(log):
    """With version 2 the marker has the epoch of the transaction that follows it."""
    log.append(log.ask(bumps_epoch=True))
    next_one = log.ask(epoch=1, bumps_epoch=True)
    log.end_transaction(epoch=1)
    assert log.append(next_one, epoch=1) is None


def test_the_marker_of_the_next_transaction_does_not(log):
    guard = log.ask(epoch=1, bumps_epoch=True)
    log.end_transaction(epoch=2)
    assert log.append(guard, epoch=1) is Code.INVALID_PRODUCER_EPOCH


def test_an_old_epoch_is_told_so_before_anything_else(log):
    log.append(log.ask(epoch=3), epoch=3)
    with pytest.raises(Refused) as refused:
        log.ask(epoch=2)
    assert refused.value.code is Code.INVALID_PRODUCER_EPOCH
    assert log.append(None, epoch=2) is Code.INVALID_PRODUCER_EPOCH


def test_a_newer_epoch_is_another_transaction(log):
    log.append(log.ask())
    assert log.append(None, epoch=1) is Code.INVALID_TXN_STATE
    assert log.append(log.ask(epoch=1), epoch=1) is None


def test_a_batch_does_not_overtake_the_first_one_asked_about(log):
    """The first one's question failed and it comes again: were the second one written, it would be out of order."""
    guard = log.ask(sequence=0)
    assert log.append(guard, sequence=5) is Code.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.append(guard, sequence=0) is None


def test_a_lower_sequence_is_the_first_from_then_on(log):
    guard = log.ask(sequence=5)
    log.ask(sequence=2)
    assert log.append(guard, sequence=5) is Code.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert log.append(guard, sequence=2) is None


def test_a_new_epoch_has_a_first_sequence_of_its_own(log):
    log.ask(sequence=0)
    guard = log.ask(epoch=1, sequence=3)
    assert log.append(guard, epoch=1, sequence=3) is None


@pytest.mark.parametrize(("bumps_epoch", "code"), [(False, None), (True, Code.OUT_OF_ORDER_SEQUENCE_NUMBER)])
def test_a_producer_that_is_not_known_begins_at_0_with_version_2(log, bumps_epoch, code):
    assert log.append(log.ask(sequence=4, bumps_epoch=bumps_epoch), sequence=4) is code


def test_nobody_need_be_asked_where_verification_is_off(log):
    assert log.append(UNVERIFIED) is None


def test_a_question_without_use_is_forgotten(log):
    guard = log.ask()
    log.producers.expire(NOW + DAY - 1)
    assert log.ask() is guard
    log.producers.expire(NOW + DAY)
    assert log.ask() is not guard


def test_expiry_leaves_an_open_transaction_alone(log):
    log.append(log.ask())
    assert log.producers.expire(NOW + 10 * DAY) == 0
    assert log.producers.first_unstable_offset == 0


def test_memory_is_bounded_whoever_asks():
    questions = Verifications()
    for producer_id in range(QUESTIONS_MAX + 1):
        last = questions.begin(producer_id, 0, 0, bumps_epoch=True, now_ms=NOW)
    assert len(questions.by_producer) == QUESTIONS_MAX
    assert 0 not in questions.by_producer
    assert questions.passes(QUESTIONS_MAX, last)
