"""WriteTxnMarkers: who waits for whom."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import trio
import trio.testing

from kpybroker.handlers.broker.write_txn_markers import handle
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
)


def marker(producer_id: int, epoch: int, topic: str) -> WritableTxnMarker:
    return WritableTxnMarker(
        producer_id=producer_id,
        producer_epoch=epoch,
        transaction_result=True,
        topics=[WritableTxnMarkerTopic(name=topic, partition_indexes=[0])],
        coordinator_epoch=0,
    )


async def test_a_marker_that_is_not_replicated_holds_up_its_own_producer_only() -> None:
    begun: list[tuple[int, int]] = []
    replicated = trio.Event()

    async def write(asked: WritableTxnMarker) -> dict[tuple[str, int], Code]:
        begun.append((asked.producer_id, asked.producer_epoch))
        if asked.topics[0].name == "stuck":
            await replicated.wait()
        return {(asked.topics[0].name, 0): Code.NONE}

    ctx: Any = SimpleNamespace(
        allows=lambda _: True,
        services=SimpleNamespace(of_broker=SimpleNamespace(txn_markers=SimpleNamespace(write=write))),
    )
    request = WriteTxnMarkersRequest(markers=[marker(1, 0, "stuck"), marker(2, 0, "well"), marker(1, 1, "after")])
    async with trio.open_nursery() as nursery:
        responses = []

        async def ask() -> None:
            responses.append(await handle(ctx, request))

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(begun) == [(1, 0), (2, 0)]
        replicated.set()
    (response,) = responses
    told = {each.producer_id: [topic.name for topic in each.topics] for each in response.markers}
    assert told == {1: ["stuck", "after"], 2: ["well"]}
