"""Entries of a segment's .txnindex file: the aborted transactions whose records may lie in it (KIP-98)."""

from kpybroker.wire.schema import Int64, Message, message


@message(versions="0")
class AbortedTxn(Message):
    """A transaction that was aborted, and up to where its end was stable."""

    producer_id: Int64
    first_offset: Int64
    last_offset: Int64
    last_stable_offset: Int64
