"""Replicas on their way from one data directory to another (KIP-113, KIP-858).

    copy       a log in a folder `<topic>-<n>.<hex>-future` of the other directory is filled from the one in use
    assign     once it has caught up and is synced, the controller is told of the new directory
    switch     at an instant in which both end alike, the copy becomes the log in use
    rename     the former log's folder becomes a `-delete` one; then the copy's gets its proper name

A crash may come at any of them. At start a copy that is longer than the log it was made from was in use already, and so
was one without such a log: it is put in its place. Any other is gone on with. Nobody is renamed to a name that is still
taken elsewhere: the former folder's new name is synced before the copy gets its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio

from kpybroker.replication.logs import unplaced
from kpybroker.replication.machines.follower import divergence, truncation_point
from kpybroker.storage.data_dir import FolderKind
from kpybroker.storage.errors import OffsetOutOfRange, StorageFailed, UnexpectedOffset
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import CorruptRecords

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.config.live import LiveConfig
    from kpybroker.ids import Ids
    from kpybroker.replication.assignments import Assignments
    from kpybroker.replication.log_dir import LogDir
    from kpybroker.replication.logs import Logs
    from kpybroker.replication.partition import Partition
    from kpybroker.replication.replicas import Replicas
    from kpybroker.storage.data_dir import PartitionFolder
    from kpybroker.storage.log import Log

log = logging.getLogger("kpybroker.replication")

RATE_MAX = "replica.alter.log.dirs.io.max.bytes.per.second"
AGAIN_S = 10.0
"""When a move is tried again for which there was no room."""
CHUNK_BYTES = 256 * 1024
"""Copied at once: read in a worker thread, appended on the loop."""
FOLDER_NAME_MAX = 255
FUTURE_SUFFIX_LENGTH = len(".") + 32 + len("-future")


class Move:
    """One replica on its way. `partition` goes on with the log in `source` until the switch."""

    def __init__(self, partition: Partition, source: LogDir, target: LogDir, copy: Log) -> None:
        self.partition = partition
        self.source = source
        self.target = target
        self.copy = copy
        self.scope = trio.CancelScope()
        self.assigned = False
        """The controller was told of the new directory."""
        self.former: Log | None = None
        """The log in `source`, once the copy is in use instead of it."""
        self.retired = False
        """That log's folder is to be deleted."""

    @property
    def place(self) -> tuple[str, int]:
        """Topic and index."""
        return self.partition.topic, self.partition.index


class Moves:
    """All moves of a node. `run` carries them out."""

    def __init__(
        self, replicas: Replicas, logs: Logs, assignments: Assignments, live: LiveConfig, clock: Clock, ids: Ids
    ) -> None:
        self._replicas = replicas
        self._logs = logs
        self._assignments = assignments
        self._pace = _Pace(live, clock)
        self._clock = clock
        self._ids = ids
        self._moves: dict[tuple[str, int], Move] = {}
        self._begun: list[Move] = []
        self._more = trio.Event()
        replicas.on_drop(self.drop)
        logs.on_failure(self._folder_failed)

    async def run(self) -> None:
        """Carry out what is begun, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                while self._begun:
                    nursery.start_soon(self._carry_out, self._begun.pop())
                self._more = trio.Event()
                await self._more.wait()

    # what is asked for

    def ask(self, topic: str, index: int, path: str) -> None:
        """Have a replica moved to a directory, or stay where it is. Raises: Refused, as Kafka's broker answers."""
        logs = self._logs
        if len(f"{topic}-{index}") + FUTURE_SUFFIX_LENGTH > FOLDER_NAME_MAX:
            raise Refused(Code.INVALID_TOPIC_EXCEPTION)
        target = logs.dir_at(path)
        if target is None:
            raise Refused(Code.KAFKA_STORAGE_ERROR if path in logs.offline else Code.LOG_DIR_NOT_FOUND)
        if logs.cordoned(path):
            raise Refused(Code.INVALID_REPLICA_ASSIGNMENT)
        place = topic, index
        move = self._moves.get(place)
        if move is not None and move.target is not target:
            if move.former is not None:  # it is done but for the names
                raise Refused(Code.REPLICA_NOT_AVAILABLE)
            self._cancel(move)
        try:
            partition = self._replicas.get(topic, index)
            _ = partition.log
        except Refused as refused:
            if refused.code is not Code.KAFKA_STORAGE_ERROR:
                logs.prefer(topic, index, path)
            missing = refused.code is Code.NOT_LEADER_OR_FOLLOWER
            raise Refused(Code.REPLICA_NOT_AVAILABLE) if missing else refused from refused
        source = logs.dir_of(topic, index)
        if source is None or source is target or place in self._moves:
            return
        if logs.offline:  # the partition may be there already
            raise Refused(Code.KAFKA_STORAGE_ERROR)
        folder = target.data_dir.future_folder(topic, index, self._ids.uuid().hex())
        try:
            copy = target.make(folder, partition.topic_id, partition.log.config)
        except StorageFailed as failure:
            logs.trouble.met(f"make {folder}", failure)
            logs.doom(folder, 0)  # what there may be of it
            raise Refused(Code.KAFKA_STORAGE_ERROR, str(failure)) from failure
        self._begin(Move(partition, source, target, copy))

    def _begin(self, move: Move) -> None:
        self._moves[move.place] = move
        move.target.futures[move.place] = move.copy
        move.partition.moving = True
        self._begun.append(move)
        self._more.set()
        log.info("moving %s from %s to %s", move.partition, move.source.path, move.target.path)

    def _cancel(self, move: Move) -> None:
        """Give a move up, before the switch."""
        self._forget(move)
        if move.assigned:
            self._assignments.add(move.partition.topic_id, move.partition.index, move.source.id)
        self._discard(move)

    def drop(self, topic: str, index: int) -> None:
        """A partition is deleted."""
        move = self._moves.get((topic, index))
        if move is not None:
            self._forget(move)
            self._discard(move)

    def _discard(self, move: Move) -> None:
        """Have the copy deleted, unless it is in use."""
        if move.former is not None:
            return
        unique, config = self._ids.uuid().hex(), move.copy.config
        try:
            move.copy.move_to(move.target.data_dir.doomed_folder(*move.place, unique, FolderKind.DELETED))
            move.copy.close(clean=False)
        except StorageFailed as failure:
            self._logs.trouble.met(f"delete {move.copy.directory}", failure)
        else:
            move.target.count -= 1
            self._logs.doom(move.copy.directory, config.file_delete_delay_ms)

    def _forget(self, move: Move) -> None:
        if self._moves.get(move.place) is move:
            del self._moves[move.place]
            move.target.futures.pop(move.place, None)
            move.partition.moving = False
        move.scope.cancel()

    def _folder_failed(self, failed: LogDir) -> None:
        """The copies in it, and those of what was in it, stay as they are."""
        for move in [each for each in self._moves.values() if failed in (each.source, each.target)]:
            self._forget(move)
            if failed is move.source:
                move.copy.close(clean=False)

    # at start

    def resume(self, found: Iterable[tuple[LogDir, PartitionFolder]]) -> None:
        """Go on with the moves that a former run left. Blocks. To be called when the other logs are recovered."""
        for home, folder in found:
            try:
                self._resume(home, folder)
            except StorageFailed as failure:
                home.unrecovered = None  # a copy may be there that was not
                self._logs.trouble.met(f"go on with {folder.path}", failure)

    def _resume(self, home: LogDir, folder: PartitionFolder) -> None:
        topic, index = place = folder.topic, folder.partition
        data_dir = home.data_dir
        try:
            partition = self._replicas.get(topic, index)
            known = data_dir.topic_id(folder.path) == partition.topic_id
        except Refused:
            known = False
        if not known or place in self._moves:
            home.count -= 1
            target = data_dir.doomed_folder(topic, index, self._ids.uuid().hex(), FolderKind.STRAY)
            log.warning("%s is not a partition of this node's: moved to %s", folder.path, target)
            data_dir.move(folder.path, target)
            return
        assigned = self._replicas.directory_of(partition.topic_id, index)
        source = self._logs.dir_of(topic, index)
        if source is None or not source.data_dir.has(topic, index):
            if self._logs.offline and assigned != home.id and not unplaced(assigned):
                return  # what it is a copy of is in a directory that is offline
            source = None
        checkpointed = max(each.checkpointed_high_watermark(*place) for each in (home, source) if each is not None)
        copy = home.load(topic, index, folder.path, self._replicas.log_config(topic))
        if source is not None:
            try:
                current = partition.log
            except Refused:
                copy.close(clean=False)
                return
            more = copy.log_end_offset - current.log_end_offset
            if more < 0 or (more == 0 and assigned != home.id):
                self._begin(Move(partition, source, home, copy))
                return
            self._retire(source, partition, current)
            source.data_dir.sync()
        partition.replace_log(copy, checkpointed=checkpointed)
        self._put_in_place(partition, home, copy)
        log.info("%s was moved to %s", partition, home.path)

    # the way of one

    async def _carry_out(self, move: Move) -> None:
        with move.scope:
            while True:
                try:
                    if move.former is None:
                        await self._prepare(move)
                        if not self._current(move):  # it was called off while nothing could be cancelled
                            return
                        self._switch(move)
                    with trio.CancelScope(shield=True):
                        await self._finish(move)
                    return
                except StorageFailed as failure:
                    self._logs.trouble.met(f"move {move.partition} to {move.target.path}", failure)
                    if not failure.temporary:
                        return
                except (CorruptRecords, UnexpectedOffset) as damage:
                    log.error("%s is not moved to %s: %s", move.partition, move.copy.directory, damage)
                    return
                await trio.sleep(AGAIN_S)

    async def _prepare(self, move: Move) -> None:
        """Fill the copy, until it ends as the log in use. Raises: StorageFailed; CorruptRecords, UnexpectedOffset."""
        if move.copy.failure is not None:
            move.copy.mend(self._clock.wall_ms())
        while not await self._copy_more(move, inline=False):
            pass
        await self._flush(move)
        await trio.lowlevel.checkpoint_if_cancelled()
        partition = move.partition
        await self._assignments.add(partition.topic_id, partition.index, move.target.id).wait()
        move.assigned = True
        while not await self._copy_more(move, inline=True):
            pass

    async def _copy_more(self, move: Move, *, inline: bool) -> bool:
        """Copy the next batches; whether the copy has all then. `inline`: nothing happens between that and the return.

        Raises: StorageFailed; CorruptRecords, UnexpectedOffset.
        """
        source, copy = move.partition.log, move.copy
        self._cut_to(source, copy, move.partition.high_watermark)
        if copy.log_end_offset == source.log_end_offset:
            return True
        offset = copy.log_end_offset if copy.size_bytes else source.log_start_offset
        try:
            found = source.read(offset, bytes_max=CHUNK_BYTES, end_offset=source.log_end_offset)
        except OffsetOutOfRange:  # retention was quicker
            copy.truncate_fully_and_start_at(source.log_start_offset, now_ms=self._clock.wall_ms())
            return False
        if found.region is None:
            if copy.size_bytes:
                raise UnexpectedOffset(f"{source.directory} has nothing at offset {offset}, and should end later")
            copy.truncate_fully_and_start_at(source.log_end_offset, now_ms=self._clock.wall_ms())
            return True
        try:
            if inline and len(found.region) < CHUNK_BYTES:
                data = found.region.read()  # little, and just written
            else:
                await self._pace.wait(len(found.region))
                data = await trio.to_thread.run_sync(found.region.read)
                await trio.lowlevel.checkpoint_if_cancelled()  # a thread is waited for, whether it is or not
        finally:
            found.region.release()
        base_offset = int.from_bytes(data[:8], "big")
        if not copy.size_bytes and base_offset != copy.log_end_offset:
            copy.truncate_fully_and_start_at(base_offset, now_ms=self._clock.wall_ms())
        copy.append_as_follower(data, now_ms=self._clock.wall_ms())
        return False  # the log in use may have been cut while this was read

    def _cut_to(self, source: Log, copy: Log, high_watermark: int) -> None:
        """Cut from the copy what is no more in the log in use, which a leader may have had cut and given other records.

        Raises: StorageFailed.
        """
        while (epoch := copy.latest_epoch) is not None:
            end_offset = copy.log_end_offset
            diverged = divergence(source.epochs, source.log_end_offset, epoch, end_offset)
            if diverged is None:
                return
            point = truncation_point(diverged, copy.epochs, end_offset, high_watermark)
            copy.truncate_to(max(point, copy.log_start_offset), now_ms=self._clock.wall_ms())
            if (copy.latest_epoch, copy.log_end_offset) == (epoch, end_offset):  # nothing says where: all over again
                copy.truncate_fully_and_start_at(source.log_start_offset, now_ms=self._clock.wall_ms())

    async def _flush(self, move: Move) -> None:
        """Raises: StorageFailed."""
        await self._logs.flush(move.copy, move.copy.log_end_offset)

    def _switch(self, move: Move) -> None:
        """Both logs end alike: from here on the copy is the one in use."""
        copy, target = move.copy, move.target
        former = move.former = move.partition.log
        del move.source.open_logs[move.place], target.futures[move.place]
        copy.increment_log_start_offset(former.log_start_offset)
        copy.first_dirty_offset = former.first_dirty_offset
        copy.reconfigure(former.config)
        copy.producers.name = former.producers.name
        target.open_logs[move.place] = copy
        move.partition.replace_log(copy)

    async def _finish(self, move: Move) -> None:
        """Once the copy in use is durable, the former log goes, and the copy gets its name. Raises: StorageFailed."""
        partition, source, former = move.partition, move.source, move.former
        assert former is not None, "the copy is in use"
        await self._flush(move)
        partition.flushed()
        if not self._current(move):
            return
        if not move.retired:
            self._retire(source, partition, former)
            move.retired = True
        await trio.to_thread.run_sync(source.data_dir.sync)
        if not self._current(move):
            return
        self._put_in_place(partition, move.target, move.copy)
        self._forget(move)
        log.info("%s was moved from %s to %s", partition, source.path, move.target.path)

    def _current(self, move: Move) -> bool:
        """Whether the partition is still there, and in a directory that is online."""
        return self._moves.get(move.place) is move

    def _retire(self, source: LogDir, partition: Partition, former: Log) -> None:
        """Have the former log deleted. Raises: StorageFailed."""
        place = partition.topic, partition.index
        source.open_logs.pop(place, None)
        source.forget(*place)
        delay_ms = former.config.file_delete_delay_ms
        former.move_to(source.data_dir.doomed_folder(*place, self._ids.uuid().hex(), FolderKind.DELETED))
        former.close(clean=False)
        source.count -= 1
        self._logs.doom(former.directory, delay_ms)

    def _put_in_place(self, partition: Partition, home: LogDir, copy: Log) -> None:
        """Give the copy the name of the log in use. Raises: StorageFailed."""
        place = partition.topic, partition.index
        copy.move_to(home.data_dir.folder(*place))
        copy.producers.name = str(partition)
        home.open_logs[place] = copy
        self._replicas.placed(*place, partition.topic_id)


class _Pace:
    """Keeps all moves together to replica.alter.log.dirs.io.max.bytes.per.second."""

    def __init__(self, live: LiveConfig, clock: Clock) -> None:
        self._live = live
        self._clock = clock
        self._due_s = clock.monotonic_s()

    async def wait(self, count: int) -> None:
        """Return when so many more bytes may be copied."""
        rate = max(self._live.current.int_of(RATE_MAX), 1)
        now_s = self._clock.monotonic_s()
        mine_s = max(self._due_s, now_s)
        self._due_s = mine_s + count / rate
        await trio.sleep(mine_s - now_s)
