"""The link to the active controller: wherever it is, and while it changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from kpybroker.cluster.controller_link import ControllerLink, ControllerLinks
from kpybroker.wire.api_keys import APIS, ApiKey
from kpybroker.wire.codec import encode
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.frames import FrameReader, frame_header
from kpybroker.wire.headers import ResponseHeader, parse_request_header
from kpybroker.wire.messages.allocate_producer_ids import AllocateProducerIdsRequest, AllocateProducerIdsResponse
from kpybroker.wire.messages.api_versions import ApiVersion, ApiVersionsResponse
from kpybroker.wire.schema import Message

REQUEST = AllocateProducerIdsRequest(broker_id=1, broker_epoch=7)
GRANTED = AllocateProducerIdsResponse(throttle_time_ms=0, error_code=0, producer_id_start=1000, producer_id_len=1000)
pytestmark = pytest.mark.simulated_time


def refusal(code: Code) -> AllocateProducerIdsResponse:
    return AllocateProducerIdsResponse(throttle_time_ms=0, error_code=code, producer_id_start=-1, producer_id_len=0)


class World:
    """Who leads, and what the nodes answer: a response, SILENCE, or a call."""

    def __init__(self, nursery: trio.Nursery, **answers: list[Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.leader_id: int | None = None
        self.leader_epoch = 1
        self.leader_address: tuple[str, int] | None = None
        self.is_leader = False
        self.news = trio.Event()
        self._nursery = nursery

    def led_by(self, name: str | None, epoch: int) -> None:
        self.leader_id, self.leader_epoch = None if name is None else hash(name), epoch
        self.leader_address = None if name is None else (name, 9093)
        self.is_leader = name == "here"
        self.news.set()
        self.news = trio.Event()

    async def connect(self, host: str, _port: int) -> trio.abc.Stream:
        if host not in self.answers:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, host, theirs)
        return ours

    async def _serve(self, host: str, stream: trio.abc.Stream) -> None:
        reader = FrameReader(1 << 20)
        while data := await stream.receive_some(4096):
            reader.feed(data)
            while (frame := reader.next_frame()) is not None:
                start = parse_request_header(frame)
                if start.api_key == ApiKey.API_VERSIONS:
                    key = ApiVersion(api_key=ApiKey.ALLOCATE_PRODUCER_IDS, min_version=0, max_version=0)
                    response: Message | None = ApiVersionsResponse(error_code=0, api_keys=[key])
                else:
                    self.asked.append(host)
                    answer = self.answers[host].pop(0)
                    response = answer() if callable(answer) else answer
                if response is not None:
                    version = APIS[start.api_key].response_header_version(start.api_version)
                    body = encode(ResponseHeader(correlation_id=start.correlation_id), version)
                    body += encode(response, start.api_version)
                    await stream.send_all(frame_header(len(body)) + body)


def controller(world: World, *answers: AllocateProducerIdsResponse | Refused, failure: Exception | None = None) -> Any:
    left = list(answers)

    async def allocate(_: AllocateProducerIdsRequest) -> AllocateProducerIdsResponse:
        world.asked.append("here")
        answer = left.pop(0)
        if isinstance(answer, Refused):
            raise answer
        return answer

    return SimpleNamespace(allocate_producer_ids=allocate, failure=failure)


def link(world: World, local: Any = None) -> ControllerLink:
    return ControllerLinks(world, local, client_id="1", request_timeout_s=5, connector=world.connect)()


async def in_world(story: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        await story(nursery)
        nursery.cancel_scope.cancel()


async def ask(to: ControllerLink, timeout_s: float | None = None) -> int:
    return (await to.ask(REQUEST, AllocateProducerIdsResponse, timeout_s=timeout_s)).producer_id_start


async def test_in_this_process() -> None:
    async def story(nursery: trio.Nursery) -> None:
        world = World(nursery)
        world.led_by("here", 1)
        assert await ask(link(world, controller(world, GRANTED))) == 1000

    await in_world(story)


async def test_elsewhere() -> None:
    async def story(nursery: trio.Nursery) -> None:
        world = World(nursery, a=[GRANTED])
        world.led_by("a", 1)
        assert await ask(link(world, controller(world))) == 1000
        assert world.asked == ["a"]

    await in_world(story)


@pytest.mark.parametrize("where", ["here", "a"])
async def test_what_it_declines_is_raised(where: str) -> None:
    async def story(nursery: trio.Nursery) -> None:
        world = World(nursery, a=[refusal(Code.STALE_BROKER_EPOCH)])
        world.led_by(where, 1)
        with pytest.raises(Refused) as refused:
            await ask(link(world, controller(world, Refused(Code.STALE_BROKER_EPOCH))))
        assert refused.value.code is Code.STALE_BROKER_EPOCH
        assert world.asked == [where]

    await in_world(story)


async def test_whoever_leads_next_is_asked() -> None:
    """Nobody leads; then one that has just ceased to, one that is dead, one that is frozen, and this node."""

    async def story(nursery: trio.Nursery) -> None:
        world = World(nursery, a=[refusal(Code.NOT_CONTROLLER)] * 1000, frozen=[None])
        world.led_by(None, 1)
        to = link(world, controller(world, Refused(Code.NOT_CONTROLLER), GRANTED))

        async def history() -> None:
            for epoch, name in enumerate(["a", "dead", "frozen", "here"], 2):
                await trio.sleep(1)
                world.led_by(name, epoch)

        nursery.start_soon(history)
        began = trio.current_time()
        assert await ask(to) == 1000
        assert trio.current_time() - began < 4.5, "a frozen leader is not waited for"
        assert list(dict.fromkeys(world.asked)) == ["a", "frozen", "here"]

    await in_world(story)


async def test_a_new_leader_is_asked_as_soon_as_it_is_known() -> None:
    async def story(nursery: trio.Nursery) -> None:
        world = World(nursery, frozen=[None], a=[GRANTED])
        world.led_by("frozen", 1)
        to = link(world)

        async def history() -> None:
            await trio.sleep(1)
            world.led_by(None, 2)
            await trio.sleep(1)
            world.led_by("a", 3)

        nursery.start_soon(history)
        began = trio.current_time()
        assert await ask(to) == 1000
        assert trio.current_time() - began == 2

    await in_world(story)


async def test_what_the_controller_elsewhere_serves() -> None:
    async def story(nursery: trio.Nursery) -> None:
        world = World(nursery, a=[GRANTED])
        world.led_by("a", 1)
        links = ControllerLinks(world, controller(world), client_id="1", request_timeout_s=5, connector=world.connect)
        to, _ = links(), links()
        assert links.versions is None, "nobody was asked yet"
        await ask(to)
        assert links.versions == {ApiKey.ALLOCATE_PRODUCER_IDS: (0, 0)}
        world.led_by("here", 2)
        assert links.versions is None, "it is the node's own"

    await in_world(story)


async def test_nobody_in_time() -> None:
    async def story(nursery: trio.Nursery) -> None:
        world = World(nursery)
        with pytest.raises(Refused) as refused:
            await ask(link(world), timeout_s=3)
        assert refused.value.code is Code.REQUEST_TIMED_OUT

    await in_world(story)


async def test_a_controller_that_has_failed_is_not_waited_for() -> None:
    async def story(nursery: trio.Nursery) -> None:
        world = World(nursery)
        world.led_by("here", 1)
        failed = controller(world, Refused(Code.NOT_CONTROLLER), failure=OSError("the disk"))
        with pytest.raises(Refused) as refused:
            await ask(link(world, failed))
        assert refused.value.code is Code.NOT_CONTROLLER

    await in_world(story)
