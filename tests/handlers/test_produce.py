"""Produce: what an answer waits for, by acks, where records are synced before anybody hears of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kpybroker.config import BrokerConfig
from kpybroker.config.topic import topic_config
from kpybroker.handlers.broker.produce import handle
from kpybroker.handlers.context import Later
from kpybroker.replication.partition import Partition
from kpybroker.storage.files import RealFiles
from kpybroker.storage.log import Log
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record
from tests.replication.surroundings import ME, around, partition_image

TOPIC_ID = bytes(15) + b"\1"
NOW_MS = 1_700_000_000_000


@pytest.fixture
def partition(tmp_path: Path) -> Partition:
    """Every record is to be synced, which a test does; the other replica has nothing, and two are to be in sync."""
    config = topic_config(BrokerConfig.load(), {"flush.messages": "1"}).log
    log = Log.create(tmp_path / "t-0", topic_id=TOPIC_ID, config=config, files=RealFiles(sync=False))
    log.flush()
    made = Partition(
        "t", 0, TOPIC_ID, around(open_log=lambda _: log, flush=lambda _: None, min_insync_replicas=lambda _: 2)
    )
    made.lead(partition_image(replicas=(ME, ME + 1)))
    return made


async def produce(partition: Partition, acks: int) -> Any:
    ctx: Any = SimpleNamespace(
        version=12,
        client_id="test",
        allows=lambda *_, **__: True,
        clock=SimpleNamespace(wall_ms=lambda: NOW_MS),
        image=SimpleNamespace(topics=SimpleNamespace(by_name={})),
        replicas=SimpleNamespace(get=lambda *_: partition),
    )
    records = memoryview(build_batch([Record(timestamp=NOW_MS, value=b"a")]))
    data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=records)])
    return await handle(ctx, ProduceRequest(acks=acks, timeout_ms=5000, topic_data=[data]))


def code_of(response: ProduceResponse | None) -> Code:
    assert response is not None
    return Code(response.responses[0].partition_responses[0].error_code)


def sync(partition: Partition) -> None:
    partition.log.flush()
    partition.flushed()


async def test_acks_1_waits_for_the_disk_alone(partition: Partition) -> None:
    later = await produce(partition, 1)
    assert isinstance(later, Later)
    assert later.awaited == 1
    sync(partition)
    assert later.awaited == 0
    assert code_of(later.response()) is Code.NONE


async def test_acks_1_does_not_ask_who_is_in_sync(partition: Partition) -> None:
    partition.lead(partition_image(replicas=(ME, ME + 1), isr=(ME,), partition_epoch=1))
    later = await produce(partition, 1)
    sync(partition)
    assert code_of(later.response()) is Code.NONE


async def test_acks_1_before_it_is_on_the_disk_has_timed_out(partition: Partition) -> None:
    later = await produce(partition, 1)
    assert code_of(later.response()) is Code.REQUEST_TIMED_OUT


async def test_acks_0_is_over_when_it_is_on_the_disk(partition: Partition) -> None:
    later = await produce(partition, 0)
    assert later.awaited == 1
    sync(partition)
    assert later.awaited == 0
    assert later.response() is None


async def test_acks_all_waits_for_the_other_replica_too(partition: Partition) -> None:
    later = await produce(partition, -1)
    sync(partition)
    assert later.awaited == 1
    assert code_of(later.response()) is Code.REQUEST_TIMED_OUT


@pytest.mark.parametrize("acks", [1, -1])
async def test_who_waits_for_the_disk_hears_that_another_leads(partition: Partition, acks: int) -> None:
    later = await produce(partition, acks)
    partition.lead(partition_image(leader=ME + 1, replicas=(ME, ME + 1), leader_epoch=1))
    assert later.awaited == 0
    assert code_of(later.response()) is Code.NOT_LEADER_OR_FOLLOWER
