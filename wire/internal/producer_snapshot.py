"""A partition's .snapshot file: the state of its producers at an offset (KIP-98)."""

from kpybroker.wire.schema import Int16, Int32, Int64, Message, Struct, Uint32, message


class ProducerEntry(Struct):
    producer_id: Int64
    epoch: Int16
    last_sequence: Int32
    last_offset: Int64
    offset_delta: Int32
    timestamp: Int64
    coordinator_epoch: Int32
    current_txn_first_offset: Int64


@message(versions="1")
class ProducerSnapshot(Message):
    """The producers that a partition knows, under a CRC."""

    crc: Uint32
    producer_entries: list[ProducerEntry]
