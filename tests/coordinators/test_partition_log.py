"""The log of a shard as it is read when the shard is loaded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kpybroker.clock import Clock
from kpybroker.coordinators.loading import load
from kpybroker.coordinators.partition_log import PartitionLog
from kpybroker.replication.partition import Partition
from kpybroker.storage.log import Log
from tests.replication.surroundings import around, partition_image
from tests.storage.faulty_files import FaultyFiles
from tests.storage.making import NOW, TOPIC_ID, append, config


async def test_a_log_whose_last_batches_were_compacted_away_is_loaded() -> None:
    disk = FaultyFiles()
    disk.make_folder("/data")
    log = Log.create("/data/t-0", topic_id=TOPIC_ID, config=config(), files=disk)
    append(log, b"a", b"b")
    log.truncate_fully_and_start_at(0, now_ms=NOW)  # a segment without batches, as compaction may leave it
    log.log_end_offset = 2
    partition = Partition("t", 0, TOPIC_ID, around(open_log=lambda _: log, now_s=lambda: 0.0))
    partition.lead(partition_image())
    machine: Any = SimpleNamespace()
    assert await load(machine, PartitionLog(partition, Clock()).read_batches(0), lambda: True) == 0
