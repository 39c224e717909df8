"""A leader that neither its controller nor its followers can reach, but clients can."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from kpybroker.handlers.broker import produce
from kpybroker.handlers.context import CloseConnection, Later
from kpybroker.replication.isolation import SURE, Isolation
from kpybroker.replication.machines.leader import Heard
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from tests.replication.surroundings import partition_image
from tests.replication.test_partition import partition_of
from tests.storage.making import NOW, batch

pytestmark = pytest.mark.simulated_time

SESSION_S = 9.0
HEARTBEAT_S = 2.0
LATEST_S = SESSION_S + 0.01
"""Nobody else leads before that."""
ALL, LEADER = -1, 1


class World:
    """A leader with one follower; its controller answers until `cut_s`."""

    def __init__(self, isr: tuple[int, ...] = (1, 2)) -> None:
        self.cut_s = float("inf")
        self.looking = trio.CancelScope()
        self.partition = partition_of(now_s=trio.current_time)
        self.partition.lead(partition_image(replicas=(1, 2), isr=isr))
        replicas: Any = SimpleNamespace(around=self.partition._around, held=lambda: [self.partition])
        clock: Any = SimpleNamespace(monotonic_s=trio.current_time)
        self.watch = Isolation(
            replicas,
            clock,
            heard_s=lambda: min(trio.current_time(), self.cut_s),
            heartbeat_s=lambda: HEARTBEAT_S,
            session_s=lambda: SESSION_S,
        ).run

    async def follow(self) -> None:
        """What the follower does while it can."""
        while True:
            await trio.sleep(0.5)
            end = self.partition.log.log_end_offset
            heard = Heard(trio.current_time())
            self.partition.fetched(2, offset=end, log_start=0, broker_epoch=-1, says_epoch=True, heard=heard)

    async def produce(self, acks: int = ALL, timeout_s: float = 30.0) -> Code:
        """What a client is answered. Raises: CloseConnection."""
        data = PartitionProduceData(index=0, records=memoryview(batch(b"a")))
        topics = [TopicProduceData(name="t", topic_id=bytes(16), partition_data=[data])]
        request = ProduceRequest(transactional_id=None, acks=acks, timeout_ms=int(timeout_s * 1000), topic_data=topics)
        ctx: Any = SimpleNamespace(
            replicas=SimpleNamespace(get=lambda *_: self.partition),
            clock=SimpleNamespace(wall_ms=lambda: NOW),
            version=9,
            allows=lambda *_, **__: True,
        )
        response = await produce.handle(ctx, request)
        if isinstance(response, Later):
            happened = trio.Event()
            response.wake = happened.set
            with trio.move_on_after(response.limit_s):
                await happened.wait()
            response = response.response()
        assert isinstance(response, ProduceResponse)
        return Code(response.responses[0].partition_responses[0].error_code)


@asynccontextmanager
async def world(isr: tuple[int, ...] = (1, 2)) -> AsyncIterator[tuple[World, trio.CancelScope]]:
    """It, and the scope in which its follower can be heard."""
    made, following = World(isr), trio.CancelScope()

    async def look() -> None:
        with made.looking:
            await made.watch()

    async def follow() -> None:
        with following:
            await made.follow()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        nursery.start_soon(follow)
        yield made, following
        nursery.cancel_scope.cancel()


async def test_clients_are_made_to_ask_others_who_leads() -> None:
    async with world() as (told, following):
        assert await told.produce() is Code.NONE
        following.cancel()
        told.cut_s = cut_s = trio.current_time()
        with pytest.raises(CloseConnection):  # whoever waits, when the session is over
            await told.produce()
        assert SESSION_S * SURE <= trio.current_time() - cut_s <= LATEST_S
        end = told.partition.log.log_end_offset
        with pytest.raises(CloseConnection):
            await told.produce()
        assert (trio.current_time() - cut_s <= LATEST_S, told.partition.log.log_end_offset) == (True, end), "at once"
        assert await told.produce(acks=LEADER) is Code.NONE, "that needs nobody else"


async def test_a_short_wait_ends_as_any() -> None:
    async with world() as (told, following):
        following.cancel()
        told.cut_s = trio.current_time()
        assert await told.produce(timeout_s=3.0) is Code.REQUEST_TIMED_OUT


async def test_followers_that_are_heard_need_no_controller() -> None:
    async with world() as (told, _):
        told.cut_s = trio.current_time()
        for _ in range(20):
            await trio.sleep(SESSION_S / 5)
            assert await told.produce() is Code.NONE


async def test_a_controller_that_is_heard_knows_who_leads() -> None:
    async with world() as (told, following):
        following.cancel()
        assert await told.produce(timeout_s=3 * SESSION_S) is Code.REQUEST_TIMED_OUT


async def test_one_that_is_not_in_sync_need_not_be_heard() -> None:
    async with world(isr=(1,)) as (told, following):
        following.cancel()
        told.cut_s = trio.current_time()
        await trio.sleep(2 * SESSION_S)
        assert await told.produce() is Code.NONE


async def test_it_goes_on_when_all_are_heard_again() -> None:
    async with world() as (told, following), trio.open_nursery() as nursery:
        following.cancel()
        told.cut_s = trio.current_time()
        with pytest.raises(CloseConnection):
            await told.produce()
        nursery.start_soon(told.follow)
        await trio.sleep(1.0)
        assert await told.produce() is Code.NONE, "the follower is enough"
        told.cut_s = float("inf")
        assert await told.produce() is Code.NONE
        nursery.cancel_scope.cancel()


async def test_who_waits_for_replicas_and_answers_nobody_goes_on_waiting() -> None:
    """A coordinator has not lost what it leads as long as nobody says so."""
    async with world() as (told, following), trio.open_nursery() as nursery:
        following.cancel()
        told.cut_s = trio.current_time()
        end = told.partition.append(batch(b"a"), now_ms=NOW).last_offset + 1
        codes = []

        async def wait() -> None:
            codes.append(await told.partition.until_replicated(end, 0))

        nursery.start_soon(wait)
        await trio.sleep(3 * SESSION_S)
        assert codes == []
        nursery.start_soon(told.follow)
        await trio.sleep(1)
        assert codes == [Code.NONE]
        nursery.cancel_scope.cancel()


async def test_who_stood_still_has_doubts_before_it_looks() -> None:
    """A process that was frozen answers what came meanwhile, and some of that before its other tasks run."""
    async with world() as (told, following):
        await trio.sleep(SESSION_S)
        assert not told.partition.doubtful
        following.cancel()
        told.looking.cancel()
        told.cut_s = trio.current_time()
        await trio.sleep(SESSION_S / 2)
        assert not told.partition.doubtful
        await trio.sleep(SESSION_S / 2)
        assert told.partition.doubtful
