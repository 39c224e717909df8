"""Transcripts of transactions: each file under transactions/ is a story told to one shard, with what it does.

    # Prose.
    2.5 init alice id=x timeout=60000
    ----
    append x Empty producer=1 epoch=0
    alice: ok producer=1 epoch=0

A command is a time in seconds, a verb, who asks (the name that the answer goes to), and key=value arguments. Whatever
falls due before a command's time happens first, at its own time, and is shown with that time. What goes to the log of
the broker is shown in parentheses. `--rewrite` puts what the shard does now into the files; keep a difference only if
you can explain each line of it.

Producer ids are handed out from 1 on, as the shard asks for them; `no-ids` lets nobody have one. Markers are asked for
with `markers ...`, and come back with `marked id=x t-0 t-1` or, with a code of their own, `marked id=x t-0:CODE`.

The log behind the shard is real: `reload` builds the shard anew from the records appended, `refuse CODE` makes the next
append fail.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kpybroker.clock import Now
from kpybroker.coordinators.machines import transaction_events as events
from kpybroker.coordinators.machines.effects import Tick
from kpybroker.coordinators.machines.settings import TransactionSettings
from kpybroker.coordinators.machines.transaction_events import PRODUCER_ID_NEEDED
from kpybroker.coordinators.machines.transaction_shard import TransactionShard
from kpybroker.coordinators.machines.transaction_state import Ending, Expected, State
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.framing import encode_key, encode_value
from kpybroker.wire.internal.transaction_records import TransactionLogKey, TransactionLogValue
from kpybroker.wire.messages.describe_transactions import TransactionState
from kpybroker.wire.messages.list_transactions import ListTransactionsResponse
from kpybroker.wire.schema import Message

from .transcript import hold

FILES = sorted((Path(__file__).parent / "transactions").glob("*.txt"))
WALL_START_MS = 1_700_000_000_000
NONE = -1

Arguments = dict[str, str]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript(path: Path, pytestconfig: pytest.Config) -> None:
    hold(path, Story(), pytestconfig)


class Story:
    """One shard, its log, and the time it is."""

    def __init__(self) -> None:
        self.settings = TransactionSettings(
            timeout_ms_max=900_000,
            id_expiration_ms=3_600_000,
            abort_interval_ms=10_000,
            expiration_interval_ms=600_000,
            two_phase_commit=False,
            transaction_version=2,
        )
        self.shard = TransactionShard(self.settings)
        self.log: list[tuple[bytes, bytes | None]] = []
        self.now = Now(0.0, WALL_START_MS)
        self.refusal: Code | None = None
        self.producer_ids = 0
        self.ids_left = True

    def tell(self, line: str) -> list[str]:
        """Carry out one command; what happens, in lines."""
        when, verb, *words = shlex.split(line)
        lines = list(self._advance(float(when)))
        names = [word for word in words if "=" not in word]
        arguments = dict(word.split("=", 1) for word in words if "=" in word)
        perform: Callable[[list[str], Arguments], Iterator[str]] = getattr(self, "do_" + verb.replace("-", "_"))
        return lines + list(perform(names, arguments))

    def check(self) -> None:
        """Nothing besides what is shown."""

    def _advance(self, to_s: float) -> Iterator[str]:
        assert to_s >= self.now.monotonic_s, "time does not go back"
        while self.shard.deadline_s <= to_s:
            self._set_time(max(self.shard.deadline_s, self.now.monotonic_s))
            yield from (f"at {self.now.monotonic_s:g} {line}" for line in self._perform(Tick()))
        self._set_time(to_s)

    def _set_time(self, seconds: float) -> None:
        passed_ms = round((seconds - self.now.monotonic_s) * 1000)
        self.now = Now(seconds, self.now.wall_ms + passed_ms)

    def _perform(self, event: events.Event) -> Iterator[str]:
        effects = self.shard.step(event, self.now)
        if effects.records and self.refusal is not None:
            yield f"refused {len(effects.records)} records"
            effects, self.refusal = self.shard.refused(effects, self.refusal, self.now), None
        yield from self._finish(effects)

    def _finish(self, effects: events.Effects) -> Iterator[str]:
        for record in effects.records:
            value = None if record.value is None else encode_value(record.value, record.value_version)
            yield "append " + _show_record(record.key, record.value, record.value_version)
            self.log.append((encode_key(record.key), value))
            self._replay(self.shard, len(self.log) - 1)
        yield from (f"{token}: {_show(response)}" for token, response in effects.replies)
        for action in effects.actions:
            yield from self._carry_out(action)
        yield from (f"({note})" for note in effects.notes)

    def _carry_out(self, action: Any) -> Iterator[str]:
        match action:
            case events.WriteMarkers(transactional_id=transactional_id):
                yield self._markers(transactional_id)
            case events.NeedProducerId(transactional_id=transactional_id):
                yield f"{transactional_id} needs a producer id"
                if self.ids_left:
                    yield from self._perform(events.AbortTimedOut(transactional_id, self._fresh()))

    def _markers(self, transactional_id: str) -> str:
        due = self.shard.markers_due(transactional_id)
        if due is None:
            return f"no markers {transactional_id}"
        where = " ".join(f"{topic}-{index}" for topic, index in due.partitions)
        what = "commit" if due.committed else "abort"
        return (
            f"markers {transactional_id} {what} producer={due.producer_id} epoch={due.producer_epoch} "
            f"version={due.transaction_version} {where}"
        ).rstrip()

    def _fresh(self) -> int:
        self.producer_ids += 1
        return self.producer_ids

    def _replay(self, shard: TransactionShard, offset: int) -> None:
        shard.apply(offset, -1, *shard.decode(*self.log[offset]))

    def _ask(self, event: Callable[[int | None], events.Event]) -> Iterator[str]:
        """Ask; if the decision needs a producer id, give one and ask again."""
        ((_, response),) = self.shard.step(event(None), self.now).replies
        yield from self._perform(event(self._fresh() if response is PRODUCER_ID_NEEDED else None))

    # -- commands about the shard

    def do_config(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        changes = {name: int(value) for name, value in arguments.items()}
        self.settings = msgspec.structs.replace(self.settings, **changes)
        return self._perform(events.SettingsChanged(self.settings))

    def do_reload(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        """The log up to `records` of its records, if it says so: what was after them is lost."""
        del self.log[int(arguments.get("records", len(self.log))) :]
        assert not self.shard.unload(Code.NOT_COORDINATOR).replies
        self.shard = TransactionShard(self.settings)
        for offset in range(len(self.log)):
            self._replay(self.shard, offset)
        yield from self._finish(self.shard.loaded(self.now))

    def do_refuse(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        self.refusal = Code[names[0]]
        yield from ()

    def do_wait(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        yield from ()

    def do_no_ids(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        self.ids_left = False
        yield from ()

    def do_ids(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        self.ids_left = True
        yield from ()

    def do_wall(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        """Somebody sets the wall clock, by so many seconds."""
        self.now = Now(self.now.monotonic_s, self.now.wall_ms + int(float(names[0]) * 1000))
        yield from ()

    def do_deadlines(self, names: list[str], arguments: Arguments) -> Iterator[str]:  # noqa: ARG002
        due = {key: self.shard.deadlines.when_s(key) for key in self.shard.deadlines._due}
        yield from (
            f"{when:g} {' '.join(key)}" for key, when in sorted(due.items(), key=lambda item: (item[1], item[0]))
        )

    def do_wrote(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        """What the log has had for long: an id with this epoch and state."""
        value = TransactionLogValue(
            producer_id=int(arguments["producer"]),
            producer_epoch=int(arguments["epoch"]),
            transaction_timeout_ms=int(arguments.get("timeout", "60000")),
            transaction_status=State[names[0]],
            transaction_partitions=None if names[0] == "EMPTY" else [],
            transaction_last_update_timestamp_ms=self.now.wall_ms - int(float(arguments.get("ago", "0")) * 1000),
            transaction_start_timestamp_ms=self.now.wall_ms - int(float(arguments.get("ago", "0")) * 1000),
        )
        self.log.append((encode_key(TransactionLogKey(transactional_id=arguments["id"])), encode_value(value)))
        self.producer_ids = max(self.producer_ids, value.producer_id)
        return self.do_reload([], {})

    # -- commands of clients

    def do_init(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        expected = None
        if "producer" in arguments:
            expected = Expected(int(arguments["producer"]), int(arguments["epoch"]))
        timeout_ms = int(arguments.get("timeout", "60000"))
        return self._ask(lambda new: events.InitProducerId(arguments["id"], timeout_ms, expected, new, names[0]))

    def do_add(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        version = int(arguments.get("version", "2"))
        return self._perform(events.AddPartitions(*_producer(arguments), _partitions(names[1:]), version, names[0]))

    def do_verify(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        return self._perform(events.VerifyPartitions(*_producer(arguments), _partitions(names[1:]), names[0]))

    def do_commit(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        return self._end(names[0], arguments, committed=True)

    def do_abort(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        return self._end(names[0], arguments, committed=False)

    def _end(self, name: str, arguments: Arguments, *, committed: bool) -> Iterator[str]:
        transactional_id, producer_id, epoch = _producer(arguments)
        ending = Ending(producer_id, epoch, committed, int(arguments.get("version", "2")))
        return self._ask(lambda new: events.EndTransaction(transactional_id, ending, new, name))

    def do_marked(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        codes = {}
        for name in names:
            where, _, code = name.partition(":")
            (partition,) = _partitions([where])
            codes[partition] = Code[code or "NONE"]
        yield from self._perform(events.MarkersWritten(arguments["id"], codes))
        if self.shard.markers_due(arguments["id"]) is not None:
            yield "still " + self._markers(arguments["id"])

    def do_describe(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        return self._perform(events.DescribeTransaction(arguments["id"], names[0]))

    def do_list(self, names: list[str], arguments: Arguments) -> Iterator[str]:
        states = frozenset(filter(None, arguments.get("states", "").split(",")))
        producer_ids = frozenset(int(each) for each in arguments.get("producers", "").split(",") if each)
        older_than_ms = int(arguments.get("older", "-1"))
        event = events.ListTransactions(states, producer_ids, older_than_ms, arguments.get("pattern"), names[0])
        return self._perform(event)


# -- reading and showing


def _producer(arguments: Arguments) -> tuple[str, int, int]:
    return arguments["id"], int(arguments["producer"]), int(arguments["epoch"])


def _partitions(names: list[str]) -> frozenset[tuple[str, int]]:
    found = (name.rpartition("-") for name in names)
    return frozenset((topic, int(index)) for topic, _, index in found)


def _show_record(key: Message, value: Message | None, version: int | None) -> str:
    assert isinstance(key, TransactionLogKey)
    if value is None:
        return f"{key.transactional_id} tombstone"
    assert isinstance(value, TransactionLogValue)
    shown = f"{key.transactional_id} {State(value.transaction_status).title}"
    shown += f" producer={value.producer_id} epoch={value.producer_epoch}"
    if value.previous_producer_id not in (NONE, value.producer_id):
        shown += f" previous={value.previous_producer_id}"
    if value.next_producer_id != NONE:
        shown += f" next={value.next_producer_id}"
    if value.client_transaction_version:
        shown += f" client={value.client_transaction_version}"
    if value.transaction_start_timestamp_ms != NONE:
        shown += f" since={(value.transaction_start_timestamp_ms - WALL_START_MS) / 1000:g}"
    for schema in value.transaction_partitions or ():
        shown += "".join(f" {schema.topic}-{index}" for index in schema.partition_ids)
    return shown if version == 1 else f"{shown} (version {version})"


def _show(response: Any) -> str:
    match response:
        case events.Outcome(code=code, producer_id=producer_id, producer_epoch=epoch):
            if code is not Code.NONE:
                return code.name
            return "ok" if producer_id == NONE else f"ok producer={producer_id} epoch={epoch}"
        case events.Verified(codes=codes):
            return " ".join(f"{topic}-{index}={codes[topic, index].name}" for topic, index in sorted(codes))
        case TransactionState():
            if response.error_code:
                return Code(response.error_code).name
            where = "".join(f" {topic.topic}-{index}" for topic in response.topics for index in topic.partitions)
            return (
                f"{response.transaction_state} producer={response.producer_id} epoch={response.producer_epoch} "
                f"timeout={response.transaction_timeout_ms}{where}"
            )
        case ListTransactionsResponse():
            return " | ".join(
                [
                    *(f"{each.transactional_id} {each.transaction_state}" for each in response.transaction_states),
                    *(f"unknown state {each}" for each in response.unknown_state_filters),
                ]
            )
    return str(response)
