"""A disk that fails at each of its operations, fills up, or loses its power."""

import random

import pytest

from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.log import Log

from .faulty_files import FaultyFiles
from .making import NOW, TOPIC_ID, append, config, end_transaction, read_all, sequenced, values

SETTINGS = config(segment_bytes=300, index_interval_bytes=0, retention_bytes=400)
FOLDER = "/data/t-0"


def reopened(disk: FaultyFiles, recovery_point: int, *, clean: bool = False) -> Log:
    return Log.open(FOLDER, config=SETTINGS, files=disk, clean=clean, recovery_point=recovery_point, now_ms=NOW)


class Story:
    """A log's life, as far as the disk lets it; what was acknowledged, and what was known to be synced."""

    def __init__(self, disk: FaultyFiles) -> None:
        self.disk = disk
        self.acknowledged: dict[int, bytes] = {}
        self.synced = 0
        self.failures = 0
        self.log: Log | None = None
        self.opened_at_point = 0
        self.closed = False

    def attempt(self, action):
        try:
            return action()
        except StorageFailed:
            self.failures += 1
            return None

    def live(self) -> None:
        self.log = self.attempt(lambda: Log.create(FOLDER, topic_id=TOPIC_ID, config=SETTINGS, files=self.disk))
        if self.log is None:
            return
        for number in range(12):
            self.send(number)
            if number == 4:
                self.flush()
            if number == 7:
                self.attempt(lambda: end_transaction(self.log, 8, 0, commit=False))
            if number == 9:
                self.attempt(lambda: self.log.retention(NOW, self.log.log_end_offset))
                self.attempt(lambda: self.log.purge(NOW + 10**9))
        self.attempt(self.close)

    def send(self, number: int) -> None:
        value = b"%d" % number * 30
        producer_id = 8 if number % 3 == 2 else 7
        producer = self.log.producers.active.get(producer_id)
        sequence = 0 if producer is None else producer.last_sequence + 1
        if producer_id == 8:
            records = sequenced(8, 0, sequence, value, transactional=True)
            self.attempt(lambda: self.log.append_as_leader(records, leader_epoch=0, now_ms=NOW))
            return
        records = sequenced(7, 0, sequence, value)
        appended = self.attempt(lambda: self.log.append_as_leader(records, leader_epoch=number // 4, now_ms=NOW))
        if appended is not None:
            self.acknowledged[appended.first_offset] = value

    def flush(self) -> None:
        end = self.log.log_end_offset
        if self.attempt(lambda: (self.log.flush(), True)):
            self.synced = end

    def close(self) -> None:
        self.log.close()
        self.synced = self.log.log_end_offset
        self.closed = True


def operations_of_a_life() -> int:
    disk = FaultyFiles()
    disk.make_folder("/data")
    disk.sync_folder("/")
    story = Story(disk)
    story.live()
    assert story.failures == 0
    assert story.closed
    assert {what for what, _ in disk.trace} == {
        "create", "mkdir", "remove", "rename", "sync", "sync folder", "truncate", "write",
    }  # fmt: skip
    return disk.operations


LIFE = operations_of_a_life()


def check(log: Log, story: Story, *, below: int | None = None) -> None:
    """Everything acknowledged that the log's start hasn't passed is there, and nothing twice.

    `below`: what was synced, after a power failure. Unsynced batches before the next segment's file may be missing then
    (a gap is also what compaction leaves, so recovery, like Kafka's, does not take it for damage).
    """
    found = read_all(log)
    offsets = [offset for offset, _ in found]
    assert offsets == sorted(set(offsets))
    there = dict(found)
    for offset, value in story.acknowledged.items():
        if log.log_start_offset <= offset and (below is None or offset < below):
            assert there.get(offset) == value, offset
    if below is None and offsets:
        assert offsets[-1] == log.log_end_offset - 1


def lived(order) -> Story:
    disk = FaultyFiles()
    disk.make_folder("/data")
    disk.sync_folder("/")
    order(disk)
    story = Story(disk)
    story.live()
    return story


@pytest.mark.parametrize("number", range(3, LIFE + 1))
def test_one_operation_fails(number):
    """The log goes on or says that it has failed; what it acknowledged is there, live and after kill -9."""

    def order(disk):
        disk.fail_at = {number: 5}
        disk.torn = number % 3 / 2

    story = lived(order)
    if story.log is None:
        return
    assert story.failures >= 1 or story.closed
    if story.log.failure is None:
        check(story.log, story)
    killed = story.disk.killed()
    point = min(story.log.recovery_point, story.synced)
    log = reopened(killed, point)
    check(log, story)
    assert append(log, b"after").first_offset == log.log_end_offset - 1
    check(log, story)
    if story.closed:
        clean = reopened(story.disk.killed(), story.log.recovery_point, clean=True)
        check(clean, story)
        append(clean, b"after")
        assert values(clean)[-1] == b"after"


@pytest.mark.parametrize("number", range(3, LIFE + 1, 3))
def test_the_disk_dies(number):
    def order(disk):
        disk.fail_from = number

    story = lived(order)
    if story.log is None:
        return
    killed = story.disk.killed()
    log = reopened(killed, min(story.log.recovery_point, story.synced))
    check(log, story)


@pytest.mark.parametrize("space", range(0, 2600, 37))
def test_the_disk_fills_up_and_gets_room_again(space):
    def order(disk):
        disk.space = space

    story = lived(order)
    if story.log is None:
        return
    if story.log.failure is None:
        check(story.log, story)
        story.disk.space = None
        append(story.log, b"room")
        assert values(story.log)[-1] == b"room"
        check(story.log, story)
    story.disk.space = None
    check(reopened(story.disk.killed(), min(story.log.recovery_point, story.synced)), story)


@pytest.mark.parametrize("seed", range(60))
def test_the_power_fails(seed):
    """Whatever was synced is there, whatever else the disk made of the rest."""
    rng = random.Random(seed)
    number = rng.randrange(3, LIFE + 1)

    def order(disk):
        disk.fail_from = number
        disk.torn = rng.random()

    story = lived(order)
    if story.log is None:
        return
    after = story.disk.crash(rng)
    if not after.exists(FOLDER):
        assert story.synced == 0
        return
    log = reopened(after, story.synced)
    check(log, story, below=story.synced)
    append(log, b"after")
    assert values(log)[-1] == b"after"


def test_a_log_that_cannot_take_an_append_back_has_failed(disk, make_log):
    log = make_log()
    append(log, b"a")
    disk.fail_from = disk.operations + 1
    with pytest.raises(StorageFailed):
        append(log, b"b")
    assert log.failure is not None
    disk.fail_from = None
    for attempt in (
        lambda: append(log, b"c"),
        lambda: log.read(0, bytes_max=1, end_offset=1),
        lambda: log.truncate_to(0, now_ms=NOW),
        log.flush,
        log.close,
    ):
        with pytest.raises(StorageFailed):
            attempt()
    log.close(clean=False)
    assert values(reopened(disk.killed(), 0)) == [b"a"]


@pytest.mark.parametrize(("failing", "failed"), [(1, False), (2, True)], ids=["once", "and the removal too"])
def test_a_segment_that_cannot_be_made_is_taken_back(disk, make_log, failing, failed):
    append(make_log(), b"a")

    def ready(copy):
        log = reopened(copy, 0)
        append(log, b"b")
        copy.trace.clear()
        return log

    probe = disk.killed()
    ready(probe).roll(NOW)
    made = probe.trace.index(("create", f"{FOLDER}/00000000000000000002.log")) + 2  # it is emptied, then

    other = disk.killed()
    log = ready(other)
    other.fail_at = {other.operations + made + number: 5 for number in range(failing)}
    with pytest.raises(StorageFailed):
        log.roll(NOW)
    assert (log.failure is not None) is failed
    if not failed:
        append(log, b"c")
        assert values(log) == [b"a", b"b", b"c"]
        assert values(reopened(other.killed(), 0)) == [b"a", b"b", b"c"]


def test_a_failed_sync_fails_the_log(disk, make_log):
    log = make_log()
    append(log, b"a")
    flush = log.begin_flush()
    disk.fail_at = {disk.operations + 1: 5}
    with pytest.raises(StorageFailed) as failed:
        flush.run()
    log.end_flush(flush, failed.value)
    assert log.failure is failed.value
    assert log.recovery_point == 0
