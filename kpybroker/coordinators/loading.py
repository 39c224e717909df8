"""Reading a shard back from its log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import trio

from kpybroker.coordinators.machines.effects import Machine
from kpybroker.wire.errors import UnknownRecord
from kpybroker.wire.records.batch import BatchHeader, iter_headers, iter_records
from kpybroker.wire.records.control import ControlType, control_type

logger = logging.getLogger(__name__)

NO_PRODUCER_ID = -1
RECORDS_PER_TURN = 500
"""How many records are read before other tasks get their turn: some 5 ms of work."""


async def load(machine: Machine, chunks: Iterable[bytes | memoryview], still_wanted: Callable[[], bool]) -> int | None:
    """Apply the batches of a log to an empty machine, letting other tasks run now and then.

    Returns the offset after the last batch; None if it was no longer wanted when it looked. Raises: Refused from
    reading; MalformedMessage for what is not a record of ours.
    """
    end = records = 0
    for chunk in chunks:
        for position, header in iter_headers(chunk):
            records += replay(machine, chunk, position, header)
            end = header.next_offset
            if records >= RECORDS_PER_TURN:
                records = 0
                await trio.lowlevel.checkpoint()
                if not still_wanted():
                    return None
    return end


def replay(machine: Machine, chunk: bytes | memoryview, position: int, header: BatchHeader) -> int:
    """Apply one batch; returns how many records it had. Of control batches only those that end transactions count."""
    count = 0
    producer_id = header.producer_id if header.is_transactional else NO_PRODUCER_ID
    for record in iter_records(chunk, position):
        count += 1
        if header.is_control:
            kind = control_type(record)
            if kind in (ControlType.COMMIT, ControlType.ABORT):
                machine.end_transaction(header.producer_id, committed=kind is ControlType.COMMIT)
            continue
        if record.key is None:
            logger.warning("Ignoring a record without a key at offset %d of a coordinator's log", record.offset)
            continue
        try:
            key, value = machine.decode(record.key, record.value)
        except UnknownRecord as unknown:
            logger.warning(
                "Keeping a record of a later release at offset %d without using it: %s", record.offset, unknown
            )
            continue
        machine.apply(record.offset, producer_id, key, value)
    return count
