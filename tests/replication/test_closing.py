"""Closing many logs: what is synced, and what becomes of it when the disk fails or the power does."""

import errno
import random

import pytest

from kpybroker.replication.closing import SYNC_ALL_FROM, close_logs
from kpybroker.storage.data_dir import DataDir
from kpybroker.storage.log import Log
from tests.storage.faulty_files import FaultyFiles
from tests.storage.making import NOW, TOPIC_ID, append, config, values


class Directory:
    def __init__(self, count: int) -> None:
        self.disk = FaultyFiles()
        self.data_dir = DataDir("/data", self.disk)
        self.logs = [
            Log.create(f"/data/t-{number}", topic_id=TOPIC_ID, config=config(), files=self.disk)
            for number in range(count)
        ]
        for number, log in enumerate(self.logs):
            append(log, b"%d" % number)
        self.disk.trace.clear()

    def syncs(self) -> list[str]:
        return [what for what, _ in self.disk.trace if what.startswith("sync")]

    def check(self) -> None:
        """After the power has failed, all is there."""
        disk = self.disk.crash(random.Random(1))
        for number in range(len(self.logs)):
            folder = f"/data/t-{number}"
            point = self.logs[number].recovery_point
            assert point == 1
            log = Log.open(folder, config=config(), files=disk, clean=True, recovery_point=point, now_ms=NOW)
            assert values(log) == [b"%d" % number]
            append(log, b"more")
            assert values(log) == [b"%d" % number, b"more"]


async def test_many_logs_are_synced_together() -> None:
    directory = Directory(SYNC_ALL_FROM)
    assert await close_logs(directory.logs, directory.data_dir)
    assert directory.syncs() == ["sync all"]
    directory.check()


async def test_few_logs_are_synced_each() -> None:
    directory = Directory(SYNC_ALL_FROM - 1)
    assert await close_logs(directory.logs, directory.data_dir)
    assert "sync all" not in directory.syncs()
    directory.check()


async def test_logs_that_are_durable_cost_nothing() -> None:
    directory = Directory(SYNC_ALL_FROM)
    for log in directory.logs:
        log.close()
    directory.disk.trace.clear()
    assert await close_logs(directory.logs, directory.data_dir)
    assert directory.disk.trace == []


@pytest.mark.parametrize("answer", ["no", "fails"])
async def test_each_is_synced_where_they_cannot_be_together(monkeypatch, answer) -> None:
    directory = Directory(SYNC_ALL_FROM)

    def sync_all(folders: list[str]) -> bool:
        assert folders == [log.directory for log in directory.logs]
        if answer == "fails":
            raise directory.disk._error("/data", errno.EIO)
        return False

    monkeypatch.setattr(DataDir, "sync_all", lambda _, folders: sync_all(folders))
    assert await close_logs(directory.logs, directory.data_dir)
    assert len(directory.syncs()) > SYNC_ALL_FROM
    directory.check()


async def test_a_log_that_cannot_be_written_or_has_failed_does_not_keep_the_others() -> None:
    directory = Directory(SYNC_ALL_FROM + 2)
    directory.disk.fail_at = {directory.disk.operations + 1: errno.ENOSPC}
    directory.logs[1]._failure = directory.disk._error("/data/t-1", errno.EIO)
    assert not await close_logs(directory.logs, directory.data_dir)
    assert [log.recovery_point for log in directory.logs] == [0, 0] + [1] * SYNC_ALL_FROM
    assert directory.syncs() == ["sync all"]


async def test_a_sync_that_fails_is_the_logs_failure(monkeypatch) -> None:
    directory = Directory(3)
    sync = FaultyFiles.sync_folder

    def failing(disk: FaultyFiles, path: str) -> None:
        if path == "/data/t-1":
            raise disk._error(path, errno.EIO)
        sync(disk, path)

    monkeypatch.setattr(FaultyFiles, "sync_folder", failing)
    assert not await close_logs(directory.logs, directory.data_dir)
    assert [log.failure is None for log in directory.logs] == [True, False, True]
