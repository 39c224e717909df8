"""A partition by itself: its log on a disk in memory, and metadata and followers as a test says."""

from __future__ import annotations

from typing import Any

import pytest

from kpybroker.replication.hidden import HIDDEN_MAX
from kpybroker.replication.machines.follower import Diverged
from kpybroker.replication.machines.leader import Heard
from kpybroker.replication.partition import Partition
from kpybroker.storage.log import Log
from kpybroker.wire.codes import Code, Refused
from tests.replication.surroundings import around, partition_image
from tests.storage.faulty_files import FaultyFiles
from tests.storage.making import NOW, TOPIC_ID, append, batch, config, end_transaction, sequenced


def partition_of(**given: Any) -> Partition:
    disk = FaultyFiles()
    disk.make_folder("/data")

    def make(_: object) -> Log:
        return Log.create("/data/t-0", topic_id=TOPIC_ID, config=config(), files=disk)

    return Partition("t", 0, TOPIC_ID, around(**({"open_log": make, "now_s": lambda: 0.0} | given)))


def test_the_first_append_to_a_log_that_is_not_open_needs_enough_replicas_too() -> None:
    partition = partition_of(min_insync_replicas=lambda _: 2)
    partition.lead(partition_image(replicas=(1, 2), isr=(1,)))
    with pytest.raises(Refused) as refused:
        partition.append(batch(b"a"), now_ms=NOW, acks_all=True)
    assert refused.value.code is Code.NOT_ENOUGH_REPLICAS
    assert partition.log.log_end_offset == 0


def test_a_transaction_that_is_replicated_stays_so_when_what_came_after_it_is_cut() -> None:
    partition = partition_of()
    partition.lead(partition_image(leader=2, replicas=(1, 2)))
    disk = FaultyFiles()
    disk.make_folder("/data")
    leader = Log.create("/data/leader", topic_id=TOPIC_ID, config=config(), files=disk)
    leader.append_as_leader(sequenced(7, 0, 0, b"a", transactional=True), leader_epoch=0, now_ms=NOW)
    end_transaction(leader, 7, 0, commit=True)
    append(leader, b"cut")
    region = leader.read(0, bytes_max=100_000, end_offset=3).region
    assert region is not None
    partition.append_replicated(region.read(), high_watermark=2, log_start=0, now_ms=NOW)
    assert partition.last_stable_offset == 2
    partition.cut_to_leader(Diverged(0, 2), now_ms=NOW)
    assert (partition.high_watermark, partition.last_stable_offset) == (2, 2)


def test_what_nobody_may_see_yet_takes_no_more_memory_with_time() -> None:
    """With too few in sync the high watermark stands still, and producers with acks=1 may go on for days."""
    partition = partition_of(min_insync_replicas=lambda _: 2)
    partition.lead(partition_image(replicas=(1, 2), isr=(1,)))
    for _ in range(HIDDEN_MAX + 100):
        partition.append(batch(b"a"), now_ms=NOW)
    assert len(partition._hidden) == HIDDEN_MAX
    bytes_of_all = sum(more_bytes for _, more_bytes in partition._hidden)
    assert bytes_of_all == (HIDDEN_MAX + 100) * len(batch(b"a"))
    partition.lead(partition_image(replicas=(1, 2), isr=(1, 2), partition_epoch=1))
    end = partition.log.log_end_offset
    partition.fetched(2, offset=end, log_start=0, broker_epoch=-1, says_epoch=True, heard=Heard(0.0))
    assert (partition.high_watermark, len(partition._hidden)) == (end, 0)


def test_a_node_does_not_begin_the_epoch_of_its_former_life() -> None:
    """It may have lost what it wrote in it: told of that epoch, the next leader would find no fault with the rest."""
    partition = partition_of()
    partition.lead(partition_image(leader=2, replicas=(1, 2)))
    append(partition.log, b"a")
    partition._around.former_life = True
    partition.lead(partition_image(leader=1, replicas=(1, 2), leader_epoch=3, partition_epoch=1))
    assert partition.log.latest_epoch == 0
    partition._around.former_life = False
    partition.lead(partition_image(leader=1, replicas=(1, 2), leader_epoch=4, partition_epoch=2))
    assert partition.log.latest_epoch == 4
