"""A simulated disk for each test, and a log on it."""

import pytest

from kpybroker.storage.log import Log

from .faulty_files import FaultyFiles
from .making import CONFIG, NOW, TOPIC_ID


@pytest.fixture
def disk() -> FaultyFiles:
    disk = FaultyFiles()
    disk.make_folder("/data")
    disk.now_ms = NOW
    return disk


@pytest.fixture
def make_log(disk):
    def make(config=CONFIG) -> Log:
        return Log.create("/data/t-0", topic_id=TOPIC_ID, config=config, files=disk)

    return make


@pytest.fixture
def reopen():
    def reopen(disk, *, clean: bool, recovery_point: int = 0, config=CONFIG, now_ms: int = NOW, **kwargs) -> Log:
        return Log.open(
            "/data/t-0", config=config, files=disk, clean=clean, recovery_point=recovery_point, now_ms=now_ms, **kwargs
        )

    return reopen
