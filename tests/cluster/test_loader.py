"""Metadata transactions: what counts when (KIP-868)."""

import pytest

from kpybroker.cluster.errors import UnreplayableRecord
from kpybroker.cluster.image import EMPTY
from kpybroker.cluster.loader import Loader, MetadataBatch
from kpybroker.wire.internal import metadata_records as rec

from .making import topic

BEGIN, END, ABORT = rec.BeginTransactionRecord(name="n"), rec.EndTransactionRecord(), rec.AbortTransactionRecord()


class Log:
    """Loads batches one after the other and remembers what each publication told."""

    def __init__(self):
        self.loader = Loader(EMPTY)
        self.next = 0

    def batch(self, *records, count=None):
        last = self.next + (len(records) if count is None else count) - 1
        self.loader.load(MetadataBatch(self.next, last, 1, 1000 + self.next, records))
        self.next = last + 1
        return self

    def published(self):
        """(topics created, offset of the image)."""
        delta = self.loader.publish()
        assert delta.after is self.loader.image
        return sorted(made.name for made in delta.topics_created()), self.loader.image.offset


def made(name):
    return topic(ord(name), name, [1])


def test_outside_a_transaction_every_batch_counts():
    log = Log().batch(*made("a"))
    assert log.published() == (["a"], 1)
    assert log.batch(*made("b")).batch(*made("c")).published() == (["b", "c"], 5)
    assert log.published() == ([], 5)


def test_a_batch_of_control_records_moves_the_offset():
    log = Log().batch(count=3)
    assert log.published() == ([], 2)
    assert log.loader.image.timestamp == 1000


def test_a_transaction_counts_when_it_ends():
    log = Log().batch(*made("a")).batch(BEGIN, *made("b"))
    assert log.loader.transaction_start == 2
    assert log.published() == (["a"], 1)
    assert log.batch(*made("c")).published() == ([], 1)
    assert log.batch(END, *made("d")).published() == (["b", "c", "d"], 9)
    assert log.loader.transaction_start is None


def test_an_aborted_transaction_never_was():
    log = Log().batch(*made("a"), BEGIN, *made("b")).batch(*made("c"), ABORT)
    assert log.published() == (["a"], 7)
    assert log.batch(*made("b")).published() == (["b"], 9)


def test_several_transactions_in_one_batch():
    log = Log().batch(BEGIN, *made("a"), END, BEGIN, *made("b"), ABORT, BEGIN, *made("c"), END)
    assert log.published() == (["a", "c"], 11)


def test_loading_everything_at_once_comes_to_the_same():
    batches = [made("a"), [BEGIN, *made("b")], [*made("c"), END], [BEGIN, *made("d"), ABORT], made("e")]
    stepwise, at_once = Log(), Log()
    for records in batches:
        stepwise.batch(*records)
        stepwise.published()
        at_once.batch(*records)
    assert at_once.published() == (["a", "b", "c", "e"], stepwise.loader.image.offset)
    assert at_once.loader.image == stepwise.loader.image


@pytest.mark.parametrize(
    ("records", "offset"),
    [
        pytest.param([BEGIN, BEGIN], 1, id="begun twice"),
        pytest.param([END], 0, id="ended without a beginning"),
        pytest.param([ABORT], 0, id="aborted without a beginning"),
    ],
)
def test_markers_out_of_place(records, offset):
    with pytest.raises(UnreplayableRecord) as raised:
        Log().batch(*records)
    assert raised.value.offset == offset
