"""What every machine of a coordinator has in common: what it answers with, and how its edge talks to it.

A machine is all state of one partition of an internal topic. `step` takes an event and decides; what it decides about
persisted state comes out as records. The edge appends them, hands each back to `apply` (the same function that builds
the machine from its log), and only then do the other effects count: replies once the high watermark has reached the end
of the log as it is after the append, actions likewise.
"""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from kpybroker.clock import Now
from kpybroker.storage.verification import Guard
from kpybroker.wire.codes import Code
from kpybroker.wire.schema import Message

Token: TypeAlias = object
"""What tells the answer to one request from others: any object that whoever asks will recognise."""

R = TypeVar("R")


class Tick(msgspec.Struct, frozen=True):
    """The machine's deadline has come. One step handles what is due first; send it again while something is."""


class Record(msgspec.Struct, frozen=True):
    """One record of an internal topic: key and value as messages; no value is a tombstone."""

    key: Message
    value: Message | None
    value_version: int | None = None
    """The version that the value is written at; None: the one that this release writes."""


class TxnProducer(msgspec.Struct, frozen=True):
    """In whose transaction records are written, and the guard of the question whether it is open (None: it is)."""

    id: int
    epoch: int
    guard: Guard | None


class Effects(Generic[R]):
    """What one step decided. Refused records: `Machine.refused`."""

    __slots__ = ("actions", "notes", "producer", "records", "replies", "splittable")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.replies: list[tuple[Token, R]] = []
        self.actions: list[Any] = []
        """What else is to be done once the records are replicated; which kinds there are is the coordinator's."""
        self.splittable = False
        """Whether the records may be spread over several batches: each stands for itself (KIP-211 tombstones)."""
        self.producer: TxnProducer | None = None
        """Who writes the records in a transaction; None: the coordinator itself, outside of one."""
        self.notes: list[str] = []
        """Lines for the log of the broker: why a group rebalances (KIP-800), whose transaction ran out of time."""


class Machine(Protocol):
    """One partition's state and decisions, without I/O, clock or chance."""

    @property
    def deadline_s(self) -> float:
        """When the next Tick is due, in monotonic seconds; infinity if never."""
        ...

    def step(self, event: Any, now: Now) -> Effects[Any]:
        """Decide what an event leads to; nothing that is persisted changes."""
        ...

    def refused(self, effects: Any, code: Code, now: Now) -> Effects[Any]:
        """What takes the place of a decision whose records the log did not take."""
        ...

    def loaded(self, now: Now) -> Effects[Any]:
        """The log has been read to its end."""
        ...

    def unload(self, code: Code) -> Effects[Any]:
        """Coordinated elsewhere from now on, or nowhere: what those who wait are told."""
        ...

    def decode(self, key: bytes | memoryview, value: bytes | memoryview | None) -> tuple[Message, Message | None]:
        """A record of its log. Raises: UnknownRecord for what a newer release wrote; MalformedMessage."""
        ...

    def apply(self, record_offset: int, producer_id: int, key: Message, value: Message | None) -> bool:
        """Take over one record of the log, written by `producer_id` in a transaction or by none (-1).

        Returns whether its type is known.
        """
        ...

    def end_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Take over a control batch of the log."""
        ...

    def instead_of(self, response: Any, code: Code) -> Any:
        """The response of the same kind that says `code`: what had been decided did not become safe."""
        ...


_AS_COORDINATOR = {
    Code.NETWORK_EXCEPTION: Code.COORDINATOR_LOAD_IN_PROGRESS,
    Code.UNKNOWN_TOPIC_OR_PARTITION: Code.COORDINATOR_NOT_AVAILABLE,
    Code.NOT_ENOUGH_REPLICAS: Code.COORDINATOR_NOT_AVAILABLE,
    Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND: Code.COORDINATOR_NOT_AVAILABLE,
    Code.REQUEST_TIMED_OUT: Code.COORDINATOR_NOT_AVAILABLE,
    Code.NOT_LEADER_OR_FOLLOWER: Code.NOT_COORDINATOR,
    Code.KAFKA_STORAGE_ERROR: Code.NOT_COORDINATOR,
    Code.MESSAGE_TOO_LARGE: Code.UNKNOWN_SERVER_ERROR,
    Code.RECORD_LIST_TOO_LARGE: Code.UNKNOWN_SERVER_ERROR,
    Code.INVALID_FETCH_SIZE: Code.UNKNOWN_SERVER_ERROR,
}


def coordinator_code(code: Code) -> Code:
    """What a client of a coordinator is told of an error of the partition behind it, as Kafka translates them."""
    return _AS_COORDINATOR.get(code, code)
