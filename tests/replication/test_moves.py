"""A replica that moves from one data folder to another, stopped at every single operation on the disk."""

from __future__ import annotations

import contextlib
import errno
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from kpybroker.clock import Clock
from kpybroker.config import BrokerConfig
from kpybroker.config.live import LiveConfig
from kpybroker.ids import Ids
from kpybroker.replication import moves
from kpybroker.replication.assignments import Assignments
from kpybroker.replication.folder_failures import FolderFailures
from kpybroker.replication.log_dir import LogDir
from kpybroker.replication.logs import Logs
from kpybroker.replication.moves import CHUNK_BYTES, Moves
from kpybroker.replication.replicas import Replicas
from kpybroker.storage.data_dir import DataDir
from kpybroker.storage.open_segments import OpenSegments
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.records.batch import build_batch, iter_headers, read_records
from kpybroker.wire.records.record import Record
from tests.storage.faulty_files import FaultyFiles

ME = 1
NOW = 1_700_000_000_000
TOPIC_ID = bytes(15) + b"\7"
IDS = {"/a": bytes(15) + b"\xaa", "/b": bytes(15) + b"\xbb"}
CRASHES = 3
"""How often the power fails at each operation, each time with another fate of what was not synced."""


class Moment:
    """What may be found if everything stops here, and what must be in it."""

    def __init__(self, disk: FaultyFiles, assigned: bytes, acknowledged: int) -> None:
        self.disk = disk
        self.assigned = assigned
        self.acknowledged = acknowledged


class WatchedFiles(FaultyFiles):
    """Has `before` called before each operation that changes something."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[], None] | None = None

    def change(self, what: str, path: Any) -> None:
        if self.before is not None:
            self.before()
        super().change(what, path)


class World:
    """The logs of a node with two folders, and what the metadata says of its one partition."""

    def __init__(
        self, disk: FaultyFiles, assigned: bytes, *, replicas: tuple[int, ...] = (ME,), **configs: str
    ) -> None:
        self.disk = disk
        self.members = replicas
        self.assigned = assigned
        self.configs = {name.replace("_", "."): value for name, value in configs.items()}
        segments = OpenSegments(100)
        dirs = [LogDir(DataDir(path, disk), id_, disk, Clock(), segments, clean=False) for path, id_ in IDS.items()]
        self.logs = Logs(dirs, disk, Clock(), Ids(7), paths=list(IDS))
        live = LiveConfig(BrokerConfig.load())
        self.replicas = Replicas(ME, live, self.logs, lambda: self.image)
        self.told: list[str] = []
        FolderFailures(self.logs, self.replicas, "/metadata", self.told.append)
        self.assignments = Assignments(self._assign)
        self.moves = Moves(self.replicas, self.logs, self.assignments, live, Clock(), Ids(8))

    @property
    def image(self) -> Any:
        partition = SimpleNamespace(
            replicas=self.members,
            isr=self.members,
            leader=ME,
            leader_epoch=3,
            partition_epoch=0,
            directories=(self.assigned,) * len(self.members),
        )
        topic = SimpleNamespace(name="t", id=TOPIC_ID, partitions={0: partition})
        return SimpleNamespace(
            topics=SimpleNamespace(by_name={"t": topic}),
            config=lambda *_: self.configs,
            partition=lambda *_: partition,
        )

    async def _assign(self, places: Mapping[tuple[bytes, int], bytes]) -> None:
        self.assigned = places[TOPIC_ID, 0]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        moving = self.logs.sort_out([("t", 0)])
        await self.replicas.recover()
        self.moves.resume(moving)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.moves.run)
            nursery.start_soon(self.assignments.run)
            nursery.start_soon(self.replicas.flusher.run)
            yield
            nursery.cancel_scope.cancel()

    async def settled(self) -> None:
        with trio.fail_after(20):
            while self.moves._moves:
                await trio.sleep(0)

    def append(self, *values: bytes) -> None:
        records = build_batch([Record(timestamp=NOW, value=value) for value in values])
        self.replicas.get("t", 0).append(records, now_ms=NOW)

    def values(self) -> list[bytes]:
        """All values of the partition, in order."""
        log = self.replicas.get("t", 0).log
        values: list[bytes] = []
        offset = log.log_start_offset
        while offset < log.log_end_offset:
            region = log.read(offset, bytes_max=1 << 20, end_offset=log.log_end_offset).region
            assert region is not None
            data = region.read()
            region.release()
            for position, header in iter_headers(data):
                values += [bytes(record.value or b"") for record in read_records(data, position)]
                offset = header.next_offset
        return values

    def folders(self) -> list[str]:
        """What there is of the partition, without what waits to be deleted and copies that were just begun."""
        found = [f"{path}/{name}" for path in IDS for name in self.disk.folders(path) if name.startswith("t-0")]
        return [name for name in found if not name.endswith(("-delete", "-stray"))]


def new_world(**configs: str) -> World:
    disk = WatchedFiles()
    world = World(disk, IDS["/a"], **configs)
    world.logs.prefer("t", 0, "/a")
    return world


def value(number: int) -> bytes:
    return b"%d" % number + b"." * 100


@pytest.mark.parametrize("ending", ["kill", "power"])
async def test_whatever_was_acknowledged_survives_an_end_at_any_moment(ending: str) -> None:
    configs = {} if ending == "kill" else {"flush_messages": "1"}
    world = new_world(**configs)
    disk = world.disk
    assert isinstance(disk, WatchedFiles)
    moments: list[Moment] = []
    chance = random.Random(11)

    def look() -> None:
        partition = world.replicas.get("t", 0)
        acknowledged = partition.high_watermark if partition.opened is not None else 0
        copies = [disk.killed()] if ending == "kill" else [disk.crash(chance) for _ in range(CRASHES)]
        moments.extend(Moment(copy, world.assigned, acknowledged) for copy in copies)

    written = 0
    async with world.running():
        for _ in range(5):
            world.append(*[value(written + number) for number in range(10)])
            written += 10
        await flushed(world)
        disk.before = look
        world.moves.ask("t", 0, "/b")
        while world.moves._moves:
            world.append(value(written))
            written += 1
            await trio.to_thread.run_sync(int)  # as long as the move's own steps take
        for _ in range(5):
            world.append(value(written))
            written += 1
            await flushed(world)
        disk.before = None
    assert world.folders() == ["/b/t-0"]
    assert len(moments) > 20
    for number, moment in enumerate(moments):
        after = World(moment.disk, moment.assigned, **configs)
        async with after.running():
            await after.settled()
            found = after.values()
            assert len(found) >= moment.acknowledged, number
            assert after.replicas.get("t", 0).high_watermark == len(found), number
            assert found == [value(each) for each in range(len(found))], number
            assert len(after.folders()) == 1, (number, after.folders())
            after.append(b"goes on")
            assert after.values()[-1] == b"goes on"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
async def test_a_disk_that_fails_at_any_operation(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is offline, or the move is not; whatever was acknowledged is there after a restart."""
    monkeypatch.setattr(moves, "AGAIN_S", 0)
    operations = await _move_and_fail(None, number)
    assert operations > 20
    for failing in range(1, operations + 1, 1 if number == errno.EIO else 3):
        await _move_and_fail(failing, number)


async def _move_and_fail(failing: int | None, number: int) -> int:
    """Move a partition on a disk that fails at an operation from then on; returns how many there were."""
    world = new_world()
    disk = world.disk
    acknowledged = 0
    async with world.running():
        for _ in range(3):
            world.append(value(acknowledged))
            acknowledged += 1
        before = disk.operations
        if failing is not None:
            disk.fail_at = {before + failing: number}
        begun = False
        with contextlib.suppress(Refused):
            world.moves.ask("t", 0, "/b")
            begun = True
        for _ in range(20):
            await trio.to_thread.run_sync(int)
            with contextlib.suppress(Refused):
                world.append(value(acknowledged))
                acknowledged += 1
        if begun and (failing is None or number == errno.ENOSPC):  # room is soon found again
            await world.settled()
            assert world.folders() == ["/b/t-0"] or world.logs.offline, failing  # a sync that fails never passes
        operations = disk.operations - before
    if number == errno.EIO and failing is not None:
        assert len(world.logs.offline) <= 1
        assert world.told == world.logs.offline
    after = World(disk.killed(), world.assigned)
    async with after.running():
        await after.settled()
        found = after.values()
        assert found[:acknowledged] == [value(each) for each in range(acknowledged)], failing
        assert len(after.folders()) == 1, (failing, after.folders())
    return operations


async def flushed(world: World) -> None:
    with trio.fail_after(20):
        while world.replicas.get("t", 0).flushing:
            await trio.sleep(0)


def begin(world: World, batches: int) -> None:
    """Begin to move the partition, and get no further than so many batches."""
    world.moves._pace._due_s = Clock().monotonic_s() + 3600
    world.moves.ask("t", 0, "/b")
    (move,) = world.moves._moves.values()
    log = world.replicas.get("t", 0).log
    for _ in range(batches):
        found = log.read(move.copy.log_end_offset, bytes_max=1, end_offset=log.log_end_offset)
        assert found.region is not None
        move.copy.append_as_follower(found.region.read(), now_ms=NOW)
        found.region.release()


async def test_what_is_longer_wins_and_a_tie_is_for_the_metadata() -> None:
    """Copies that were in use, or not yet, as their ends say."""
    for behind, home in ((1, "/a/t-0"), (0, "/b/t-0")):
        world = new_world()
        async with world.running():
            world.append(b"x")
            world.append(b"y")
            begin(world, batches=2 - behind)
        after = World(world.disk.killed(), IDS["/b"])
        moving = after.logs.sort_out([("t", 0)])
        await after.replicas.recover()
        after.moves.resume(moving)
        assert home in after.folders()
        assert after.values() == [b"x", b"y"]


async def test_a_copy_follows_a_log_that_is_cut_and_written_anew() -> None:
    """By a new leader, while a chunk waits for its turn: the ends tell nothing then."""
    world = new_world()
    async with world.running():
        for number in range(4):
            world.append(value(number))
        begin(world, batches=4)
        (move,) = world.moves._moves.values()
        log = world.replicas.get("t", 0).log
        log.truncate_to(2, now_ms=NOW)
        for number in (12, 13, 14):
            records = build_batch([Record(timestamp=NOW, value=value(number))])
            log.append_as_leader(bytearray(records), leader_epoch=4, now_ms=NOW)
        world.moves._pace._due_s = 0.0
        while not await world.moves._copy_more(move, inline=True):
            pass
        assert [move.copy.log_end_offset, move.copy.epochs.entries] == [5, log.epochs.entries]
        world.moves._switch(move)
        assert world.values() == [value(each) for each in (0, 1, 12, 13, 14)]


async def test_a_copy_that_is_the_log_is_not_replicated_because_it_is_there() -> None:
    world = new_world()
    async with world.running():
        world.append(b"x")
        begin(world, batches=1)
    disk = world.disk.killed()
    disk.remove_folder("/a/t-0")
    after = World(disk, IDS["/a"], replicas=(ME, 2))
    moving = after.logs.sort_out([("t", 0)])
    after.moves.resume(moving)
    partition = after.replicas.get("t", 0)
    assert (partition.log.log_end_offset, partition.high_watermark) == (1, 0)


async def test_a_lone_copy_is_the_log() -> None:
    world = new_world()
    async with world.running():
        world.append(b"x")
        begin(world, batches=1)
    disk = world.disk.killed()
    disk.remove_folder("/a/t-0")
    after = World(disk, IDS["/a"])
    async with after.running():
        assert after.folders() == ["/b/t-0"]
        assert after.values() == [b"x"]


async def test_more_than_a_chunk_and_batches_larger_than_one() -> None:
    world = new_world()
    large = bytes(CHUNK_BYTES + 1)
    async with world.running():
        for number in range(3):
            world.append(b"%d" % number, b"small")
            world.append(large[: len(large) - 2000])
        world.moves.ask("t", 0, "/b")
        await world.settled()
        assert world.folders() == ["/b/t-0"]
        assert [len(each) for each in world.values()] == [1, 5, len(large) - 2000] * 3


async def test_a_copy_of_another_topic_is_set_aside() -> None:
    world = new_world()
    async with world.running():
        world.append(b"x")
        begin(world, batches=0)
    disk = world.disk.killed()
    (future,) = (name for name in disk.folders("/b"))
    disk.remove(f"/b/{future}/partition.metadata")
    after = World(disk, IDS["/a"])
    async with after.running():
        assert after.values() == [b"x"]
        assert [name.endswith("-stray") for name in disk.folders("/b")] == [True]


async def test_asking_for_what_can_not_be() -> None:
    world = new_world()
    async with world.running():
        world.append(b"x")
        for place, path, code in (
            (("t", 0), "/nowhere", Code.LOG_DIR_NOT_FOUND),
            (("t" * 250, 0), "/b", Code.INVALID_TOPIC_EXCEPTION),
            (("u", 0), "/b", Code.UNKNOWN_TOPIC_OR_PARTITION),
        ):
            with pytest.raises(Refused) as refused:
                world.moves.ask(*place, path)
            assert refused.value.code is code
