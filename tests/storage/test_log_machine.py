"""A log against a model: a list of records. Any sequence of operations, with clean and unclean stops in between."""

import random

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kpybroker.storage.log import Log
from kpybroker.wire.records.batch import iter_headers, iter_records

from .faulty_files import FaultyFiles
from .machines import run_machine
from .making import NOW, TOPIC_ID, append, config, end_transaction, read_all, sequenced

FOLDER = "/data/t-0"


class LogMachine(RuleBasedStateMachine):
    """The model: batches as (first offset, values, leader epoch, producer), and per producer its next sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = FaultyFiles()
        self.disk.make_folder("/data")
        self.batches: list[tuple[int, list[bytes | None], int, int]] = []
        self.start = self.end = 0
        self.epoch = 0
        self.sequences: dict[int, int] = {}
        self.first_producer_id = 0
        self.open: int | None = None  # where producer 9's transaction began
        self.now = NOW

    @initialize(
        segment_bytes=st.sampled_from([200, 500, 1 << 20]),
        index_interval_bytes=st.sampled_from([0, 100, 4096]),
        preallocate=st.booleans(),
    )
    def create(self, **changes) -> None:
        self.config = config(retention_ms=50, segment_ms=200, **changes)
        self.log = Log.create(FOLDER, topic_id=TOPIC_ID, config=self.config, files=self.disk)
        self.log.flush()
        self.disk.sync_folder("/")

    def _reopen(self, *, clean: bool) -> None:
        if not clean:
            self.disk = self.disk.killed()
        self._open(clean=clean, recovery_point=self.log.recovery_point)
        self._take_producers()

    def _open(self, *, clean: bool, recovery_point: int) -> None:
        self.log = Log.open(
            FOLDER,
            config=self.config,
            files=self.disk,
            clean=clean,
            recovery_point=recovery_point,
            log_start_offset=self.start,
            now_ms=self.now,
        )

    def _take_producers(self) -> None:
        """The log went back or was read again. With all batches there, what it knows is the model's."""
        known = self.log.producers.active
        sequences = {producer_id: producer.last_sequence + 1 for producer_id, producer in known.items()}
        opened = known[9].transaction_start if 9 in known else None
        if self.start == 0:
            model: dict[int, int] = {}
            model_open = None
            for first, values, _, producer_id in self.batches:
                if values == [None]:
                    model_open = None
                elif producer_id:
                    model[producer_id] = model.get(producer_id, 0) + 1
                    if producer_id == 9 and model_open is None:
                        model_open = first
            assert (sequences, opened) == (model, model_open)
            self.sequences, self.open = sequences, opened
        else:  # records of theirs may be gone, so nobody goes on with the numbers; other producers take over
            self.first_producer_id += 10
            self.sequences, self.open = {}, None

    def _appended(self, first_offset: int, values: list[bytes | None], producer_id: int = 0) -> None:
        assert first_offset == self.end
        self.batches.append((self.end, values, self.epoch, producer_id))
        self.end += len(values)

    @rule(values=st.lists(st.binary(max_size=40), min_size=1, max_size=3), step=st.integers(0, 60))
    def append(self, values, step) -> None:
        self.now += step
        appended = append(self.log, *values, epoch=self.epoch, timestamp=self.now, now_ms=self.now)
        self._appended(appended.first_offset, values)

    @rule(producer_id=st.integers(1, 3), value=st.binary(max_size=40))
    def append_idempotent(self, producer_id, value) -> None:
        producer_id += self.first_producer_id
        sequence = self.sequences.get(producer_id, 0)
        records = sequenced(producer_id, 0, sequence, value, timestamp=self.now)
        appended = self.log.append_as_leader(records, leader_epoch=self.epoch, now_ms=self.now)
        assert not appended.duplicate
        self._appended(appended.first_offset, [value], producer_id)
        self.sequences[producer_id] = sequence + 1
        again = self.log.append_as_leader(
            sequenced(producer_id, 0, sequence, value, timestamp=self.now), leader_epoch=self.epoch, now_ms=self.now
        )
        assert (again.duplicate, again.first_offset) == (True, appended.first_offset)

    @rule(commit=st.booleans(), value=st.binary(max_size=40))
    def transaction(self, commit, value) -> None:
        producer_id = 9 + self.first_producer_id
        sequence = self.sequences.get(producer_id, 0)
        records = sequenced(producer_id, 0, sequence, value, timestamp=self.now, transactional=True)
        self.log.append_as_leader(records, leader_epoch=self.epoch, now_ms=self.now)
        first = self.open if self.open is not None else self.end
        self._appended(self.end, [value], producer_id)
        self.log.producers.replicated_to(self.end)
        if self.first_producer_id == 0:
            assert self.log.first_unstable_offset == max(first, self.start)
        else:  # a transaction of one that was given up may still be open
            assert self.log.first_unstable_offset <= max(first, self.start)
        self.sequences[producer_id] = sequence + 1
        appended = end_transaction(self.log, producer_id, 0, commit=commit, timestamp=self.now, leader_epoch=self.epoch)
        self._appended(appended.first_offset, [None])
        self.open = None
        aborted = self.log.aborted_transactions(self.end - 1, self.end)
        assert [txn.first_offset for txn in aborted] == ([] if commit else [first])

    @rule()
    def next_epoch(self) -> None:
        self.epoch += 1

    @rule()
    def roll(self) -> None:
        self.log.roll(self.now)

    @rule()
    def flush(self) -> None:
        self.log.flush()
        assert self.log.recovery_point == self.end

    @rule(data=st.data())
    def truncate(self, data) -> None:
        offset = data.draw(st.integers(self.start, self.end))
        before = self.log.generation
        cuts = offset < self.end
        self._truncate(offset)
        assert self.log.generation == before + cuts
        self._take_producers()

    def _truncate(self, offset: int) -> None:
        if offset < self.end:
            self._cut(min(first for first, values, *_ in self.batches if first + len(values) > offset))
        assert self.log.truncate_to(offset, now_ms=self.now) == self.end
        self.start = min(self.start, self.end)

    def _cut(self, end: int) -> None:
        self.batches = [batch for batch in self.batches if batch[0] + len(batch[1]) <= end]
        self.end = end

    @rule(data=st.data())
    def delete_records(self, data) -> None:
        self.start = data.draw(st.integers(self.start, self.end))
        self.log.increment_log_start_offset(self.start)

    @rule(step=st.integers(0, 100))
    def retention(self, step) -> None:
        self.now += step
        self.log.retention(self.now, self.end)
        assert self.log.log_start_offset >= self.start
        self.start = self.log.log_start_offset
        self.log.purge(self.now + 10**6)

    @rule()
    def stop_cleanly(self) -> None:
        self.log.close()
        self._reopen(clean=True)

    @rule()
    def kill(self) -> None:
        self._reopen(clean=False)

    @rule(seed=st.integers(0, 1000))
    def lose_power(self, seed) -> None:
        """What was flushed is there. What else is there is cut off, as a follower does that its leader tells to."""
        point = self.log.recovery_point
        self.disk = self.disk.crash(random.Random(seed))
        self._open(clean=False, recovery_point=point)
        assert self.log.log_end_offset >= point
        if self.log.log_end_offset == self.start:  # nothing is left, even of the batch that the start may lie in
            self._cut(self.start)
        else:
            self._truncate(point)
        self._take_producers()

    @precondition(lambda self: self.end > self.start)
    @rule(data=st.data(), bytes_max=st.integers(1, 2000))
    def read(self, data, bytes_max) -> None:
        offset = data.draw(st.integers(self.start, self.end - 1))
        end = data.draw(st.integers(offset, self.end))
        result = self.log.read(offset, bytes_max=bytes_max, end_offset=end)
        if result.region is None:  # the end lies at the offset, or in its batch
            assert not any(offset < first + len(values) <= end for first, values, *_ in self.batches)
            return
        content = result.region.read()
        assert len(content) == len(result.region)
        batches = list(iter_headers(content))
        assert batches
        assert batches[0][1].base_offset <= offset <= batches[0][1].last_offset
        assert len(content) <= max(bytes_max, batches[0][1].length)
        model = {first: values for first, values, *_ in self.batches}
        for position, header in batches:
            if not header.is_control:
                values = [record.value for record in iter_records(content, position)]
                assert values == model[header.base_offset]

    @invariant()
    def it_is_what_the_model_says(self) -> None:
        if not hasattr(self, "log"):
            return
        log = self.log
        assert (log.log_start_offset, log.log_end_offset) == (self.start, self.end)
        expected = [
            (first + at, value)
            for first, values, *_ in self.batches
            for at, value in enumerate(values)
            if first + at >= self.start
        ]
        found = read_all(log)
        assert [offset for offset, _ in found] == [offset for offset, _ in expected]
        for (_, value), (_, wanted) in zip(found, expected, strict=True):
            assert wanted is None or value == wanted
        assert log.recovery_point <= log.log_end_offset
        assert log.size_bytes == sum(
            self.disk.size(f"{FOLDER}/{base:020d}.log") for base in log.segments.bases[:-1]
        ) + (log._segments.active.size if log._segments.active else 0)

    @invariant()
    def epochs_are_those_of_the_batches(self) -> None:
        if hasattr(self, "log"):
            entries = self.log.epochs.entries
            assert entries == sorted(entries)
            for first, _, epoch, _ in self.batches:
                if first >= self.start:
                    assert self.log.epochs.epoch_of(first) == epoch


def test_log(pytestconfig) -> None:
    run_machine(LogMachine, pytestconfig)
