"""A broker among others, as the controller gets to see it: registered, caught up, in service, handed over."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio

from kpybroker.cluster.broker_lifecycle import BrokerLifecycle, LifecycleSettings, RegistrationFailed
from kpybroker.cluster.errors import FolderUntold
from kpybroker.cluster.image import EMPTY, BrokerImage, ClusterImage, FeaturesImage
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from kpybroker.wire.messages.broker_registration import BrokerRegistrationRequest, BrokerRegistrationResponse

from .making import LISTENER

pytestmark = pytest.mark.simulated_time
ONE, TWO = b"1" * 16, b"2" * 16
ME, OTHER = 1, 2


class World:
    """The metadata, and a controller in another process that writes it."""

    def __init__(self) -> None:
        self.image: ClusterImage = EMPTY
        self.without_directories = False
        self.is_lone_voter = False
        self.local = None
        self.heard: list[BrokerHeartbeatRequest] = []
        self.heard_s: list[float] = []
        self.registrations: list[BrokerRegistrationRequest] = []
        self.refusals: list[Code] = []
        self.epochs = iter(range(100, 200))
        self.leads = 2
        self.found = trio.Event()
        """Set: there is a controller. A broker that is not told to stop waits for one."""
        self.found.set()
        self._listeners: list[Callable[[Any, ClusterImage], None]] = []

    def on_change(self, listener: Callable[[Any, ClusterImage], None]) -> None:
        self._listeners.append(listener)

    def raise_to(self, metadata_version: int) -> None:
        """metadata.version is this with the next commit."""
        self.image = msgspec.structs.replace(self.image, features=FeaturesImage({"metadata.version": metadata_version}))

    def commit(self, broker: BrokerImage | None = None, *, offset: int | None = None) -> None:
        """The metadata says this of the broker now, and reaches `offset`."""
        brokers = self.image.brokers if broker is None else {**self.image.brokers, broker.id: broker}
        self.image = msgspec.structs.replace(
            self.image, brokers=brokers, offset=self.image.offset + 1 if offset is None else offset
        )
        for listener in self._listeners:
            listener(SimpleNamespace(broker_ids=set() if broker is None else {broker.id}), self.image)

    async def ask(self, request: Any, _response_class: type, **_: float) -> Any:
        await trio.sleep(0.001)
        if isinstance(request, BrokerHeartbeatRequest) and not request.want_shut_down:
            await self.found.wait()
        if self.refusals and (code := self.refusals.pop(0)):
            raise Refused(code)
        if isinstance(request, BrokerRegistrationRequest):
            return self._register(request)
        return self._heartbeat(request)

    def _register(self, request: BrokerRegistrationRequest) -> BrokerRegistrationResponse:
        self.registrations.append(request)
        known = self.image.brokers.get(request.broker_id)
        epoch = next(self.epochs) if known is None else known.epoch
        broker = registered(request.broker_id, epoch, fenced=known is None or known.fenced)
        if self.without_directories:
            broker = msgspec.structs.replace(broker, directories=())
        self.commit(broker, offset=max(epoch, self.image.offset))
        return BrokerRegistrationResponse(throttle_time_ms=0, error_code=0, broker_epoch=epoch)

    def _heartbeat(self, request: BrokerHeartbeatRequest) -> BrokerHeartbeatResponse:
        self.heard.append(request)
        self.heard_s.append(trio.current_time())
        caught_up = request.current_metadata_offset >= request.broker_epoch
        broker = self.image.brokers[request.broker_id]
        if caught_up and not request.want_fence and broker.fenced:
            broker = msgspec.structs.replace(broker, fenced=False)
            self.commit(broker)
        if request.want_shut_down:
            self.leads -= 1
        return BrokerHeartbeatResponse(
            throttle_time_ms=0,
            error_code=0,
            is_caught_up=caught_up,
            is_fenced=broker.fenced,
            should_shut_down=request.want_shut_down and self.leads < 0,
        )

    def lifecycle(self) -> BrokerLifecycle:
        return BrokerLifecycle(
            self,  # type: ignore[arg-type]
            node_id=ME,
            cluster_id="c",
            incarnation_id=bytes(16),
            directories={"/one": ONE, "/two": TWO},
            cordoned=frozenset(),
            settings=LifecycleSettings(heartbeat_s=2.0, registration_timeout_s=60.0, folder_failure_s=30.0),
            heartbeats=self,  # type: ignore[arg-type]
            requests=self,  # type: ignore[arg-type]
        )


def registered(broker_id: int, epoch: int, *, fenced: bool) -> BrokerImage:
    return BrokerImage(
        id=broker_id,
        epoch=epoch,
        incarnation_id=bytes(16),
        endpoints=(LISTENER,),
        features={},
        rack=None,
        fenced=fenced,
        in_controlled_shutdown=False,
        directories=(ONE, TWO),
        cordoned_directories=None,
    )


async def silence(*_: Any, **__: Any) -> Any:
    """Instead of a controller that answers."""
    await trio.sleep_forever()


async def joined(world: World, nursery: trio.Nursery) -> BrokerLifecycle:
    broker = world.lifecycle()
    nursery.start_soon(broker.run)
    await broker.join([LISTENER], rack="r", previous_epoch=42)
    await broker.serve()
    return broker


async def test_from_nothing_to_service() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        broker = await joined(world, nursery)
        assert (broker.epoch, world.image.brokers[ME].fenced) == (100, False)
        (request,) = world.registrations
        assert (request.previous_broker_epoch, request.rack, request.log_dirs) == (42, "r", [ONE, TWO])
        assert [(each.want_fence, each.current_metadata_offset) for each in world.heard] == [(False, 100)]
        assert trio.current_time() - world.heard_s[0] < 0.1, "nothing is waited for but the controller"
        await trio.sleep(7)
        assert len(world.heard) in (4, 5), "one every broker.heartbeat.interval.ms, once it is there"
        nursery.cancel_scope.cancel()


async def test_when_the_controller_was_last_heard() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        broker = world.lifecycle()
        assert broker.heard_s == trio.current_time(), "one that is not registered misses nobody"
        nursery.start_soon(broker.run)
        await broker.join([LISTENER], rack="r", previous_epoch=42)
        await broker.serve()
        await trio.sleep(7)
        assert trio.current_time() - broker.heard_s <= 2.01
        world.found = trio.Event()
        asked_s = broker.heard_s
        await trio.sleep(20)
        assert broker.heard_s == asked_s
        world.found.set()
        await trio.sleep(0.1)
        assert broker.heard_s > asked_s
        nursery.cancel_scope.cancel()


async def test_one_that_shuts_down_is_not_kept_waiting() -> None:
    """It may go when the controller has heard from all brokers that they know: they tell it before it is their time."""
    world = World()
    async with trio.open_nursery() as nursery:
        await joined(world, nursery)
        await trio.sleep(0.5)
        world.heard.clear()
        other = registered(OTHER, 200, fenced=False)
        world.commit(other)
        await trio.sleep(0.1)
        assert world.heard == []
        world.commit(msgspec.structs.replace(other, in_controlled_shutdown=True))
        await trio.sleep(0.1)
        assert [each.current_metadata_offset for each in world.heard] == [world.image.offset]
        nursery.cancel_scope.cancel()


async def test_while_the_former_incarnation_is_believed_alive() -> None:
    world = World()
    world.refusals = [Code.DUPLICATE_BROKER_REGISTRATION] * 10
    async with trio.open_nursery() as nursery:
        assert (await joined(world, nursery)).epoch == 100
        nursery.cancel_scope.cancel()


async def test_a_broker_that_may_not_register_gives_up() -> None:
    world = World()
    world.refusals = [Code.INVALID_REGISTRATION] * 1000
    began = trio.current_time()
    with pytest.raises(RegistrationFailed):
        await world.lifecycle().join([LISTENER], rack=None, previous_epoch=-1)
    assert trio.current_time() - began == 60


@pytest.mark.parametrize("code", [Code.STALE_BROKER_EPOCH, Code.BROKER_ID_NOT_REGISTERED])
async def test_a_controller_that_has_forgotten_it(code: Code) -> None:
    """As Kafka's broker: it stays out until it is started anew, and still says that it is there."""
    world = World()
    async with trio.open_nursery() as nursery:
        broker = await joined(world, nursery)
        world.refusals = [code] * 3
        heard = len(world.heard)
        await trio.sleep(9)
        assert (broker.epoch, len(world.registrations)) == (100, 1)
        assert len(world.heard) > heard
        nursery.cancel_scope.cancel()


async def test_a_registration_without_folders_is_written_anew_when_the_metadata_can_hold_them() -> None:
    """KIP-858: metadata.version is raised past 3.7-IV2 while the broker runs."""
    world = World()
    world.without_directories = True
    world.raise_to(16)
    async with trio.open_nursery() as nursery:
        broker = await joined(world, nursery)
        world.commit()
        await trio.sleep(5)
        assert len(world.registrations) == 1
        world.without_directories = False
        broker.cordon(["/two"])
        world.raise_to(30)
        world.commit()
        await trio.sleep(0.5)
        assert [each.incarnation_id for each in world.registrations] == [bytes(16)] * 2
        assert (broker.epoch, world.image.brokers[ME].directories) == (100, (ONE, TWO))
        assert world.heard[-1].cordoned_log_dirs == [TWO], "the new record has none"
        world.commit()
        await trio.sleep(5)
        assert len(world.registrations) == 2
        nursery.cancel_scope.cancel()


async def test_a_broker_that_was_fenced_asks_again_as_it_catches_up() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        broker = await joined(world, nursery)
        world.commit(registered(ME, broker.epoch, fenced=True))
        await trio.sleep(0.1)
        assert not world.image.brokers[ME].fenced
        nursery.cancel_scope.cancel()


async def test_what_happens_to_folders_is_told_at_once() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        broker = await joined(world, nursery)
        broker.directory_failed("/two")
        await trio.sleep(0.1)
        assert world.heard[-1].offline_log_dirs == [TWO]
        broker.cordon(["/one"])
        broker.cordon(["/one"])
        count = len(world.heard)
        await trio.sleep(0.1)
        assert (len(world.heard), world.heard[-1].cordoned_log_dirs) == (count + 1, [ONE])
        nursery.cancel_scope.cancel()


async def test_a_folder_that_failed_and_of_which_nobody_can_be_told_ends_the_node() -> None:
    """log.dir.failure.timeout.ms: others would go on believing in the replicas there."""
    world = World()
    with pytest.RaisesGroup(FolderUntold):
        async with trio.open_nursery() as nursery:
            broker = await joined(world, nursery)
            world.ask = silence
            failed_s = trio.current_time()
            broker.directory_failed("/two")
            await trio.sleep_forever()
    assert trio.current_time() - failed_s == 30


async def test_a_folder_that_failed_and_was_told_of_is_no_reason_to_end() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        broker = await joined(world, nursery)
        world.refusals = [Code.NOT_CONTROLLER] * 10
        broker.directory_failed("/two")
        await trio.sleep(25)
        world.ask = silence
        await trio.sleep(100)
        nursery.cancel_scope.cancel()


async def test_it_waits_until_what_it_leads_is_handed_over() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        broker = await joined(world, nursery)
        count = len(world.heard)
        with trio.fail_after(1):
            await broker.shut_down()
        assert [each.want_shut_down for each in world.heard[count:]] == [True, True, True]
        await trio.sleep(10)
        assert len(world.heard) == count + 3, "it is gone, and says no more"
        nursery.cancel_scope.cancel()


async def test_one_that_was_unregistered_has_nothing_to_hand_over() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        broker = await joined(world, nursery)
        world.image = msgspec.structs.replace(world.image, brokers={})
        count = len(world.heard)
        await broker.shut_down()
        assert len(world.heard) == count
        nursery.cancel_scope.cancel()


async def test_a_heartbeat_that_waits_for_a_controller_is_not_sent_once_the_broker_stops() -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        broker = await joined(world, nursery)
        world.found = trio.Event()
        await trio.sleep(3)
        await broker.shut_down()
        world.found.set()
        await trio.sleep(5)
        assert [each.want_shut_down for each in world.heard][-1]
        nursery.cancel_scope.cancel()
