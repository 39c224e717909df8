"""The metadata log as it lies in a node's folder: its batches, and the names of its snapshots."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from harness.cluster.nodes import Node
from kpybroker.wire.internal.framing import decode_metadata_record
from kpybroker.wire.internal.metadata_records import (
    BrokerRegistrationChangeRecord,
    PartitionChangeRecord,
    PartitionRecord,
)
from kpybroker.wire.records.batch import iter_headers, iter_records, read_header
from kpybroker.wire.schema import Message

FOLDER: Final = "__cluster_metadata-0"
SAME: Final = -2
"""As the leader in a change of a partition."""
SNAPSHOT: Final = re.compile(r"(\d{20})-(\d{10})\.checkpoint")


def batches(node: Node) -> dict[int, bytes]:
    """The batches of its log, by their first offsets."""
    found = {}
    for path in sorted((node.data_dir / FOLDER).glob("*.log")):
        data = path.read_bytes()
        for start, header in iter_headers(data):
            found[header.base_offset] = data[start : start + header.length]
    return found


def records(node: Node) -> Iterator[Message]:
    """The metadata records of its log, in their order."""
    for batch in batches(node).values():
        if not read_header(batch).is_control:
            for record in iter_records(batch, 0):
                assert record.value is not None
                yield decode_metadata_record(record.value)


def shutdown_of(node: Node, broker_id: int) -> tuple[int, int]:
    """What the last controlled shutdown of a broker came to, by a node's log (KIP-841).

    How many of its partitions got another leader before it was fenced, and how many it led even then.
    """
    leaders: dict[tuple[bytes, int], int] = {}
    moved, left = 0, -1
    for record in records(node):
        match record:
            case BrokerRegistrationChangeRecord(broker_id=about, fenced=fenced, in_controlled_shutdown=leaves):
                if about == broker_id and leaves == 1:
                    moved, left = 0, -1
                elif about == broker_id and fenced == 1 and left < 0:
                    left = list(leaders.values()).count(broker_id)
            case PartitionRecord(topic_id=topic_id, partition_id=index, leader=leader):
                leaders[topic_id, index] = leader
            case PartitionChangeRecord(topic_id=topic_id, partition_id=index, leader=leader) if leader != SAME:
                moved += left < 0 and leaders[topic_id, index] == broker_id
                leaders[topic_id, index] = leader
    return moved, left


def epochs(node: Node) -> dict[int, int]:
    """First offset -> leader epoch, of each batch of its log."""
    return {offset: int.from_bytes(batch[12:16], "big") for offset, batch in batches(node).items()}


def snapshots(node: Node) -> list[tuple[int, int]]:
    """Offset and epoch of its snapshots, but for the one that formatting leaves."""
    names = (SNAPSHOT.fullmatch(path.name) for path in (node.data_dir / FOLDER).iterdir())
    return sorted((int(name[1]), int(name[2])) for name in names if name is not None and int(name[1]) > 0)


def compared(nodes: Iterable[Node]) -> int:
    """How many batches these nodes have in common, byte for byte. Raises: AssertionError where they differ.

    From where the last of the logs begins to where the first ends: the nodes were not stopped at one moment.
    """
    logs = [batches(node) for node in nodes]
    start, end = max(min(log) for log in logs), min(max(log) for log in logs)
    parts = [{offset: batch for offset, batch in log.items() if start <= offset <= end} for log in logs]
    for part in parts[1:]:
        differ = sorted(at for at in {*part, *parts[0]} if part.get(at) != parts[0].get(at))
        assert not differ, f"the logs differ in the batches at {differ}"
    assert parts[0], "the logs have nothing in common"
    return len(parts[0])
