"""This node's broker as the controller knows it: registered, caught up, in service, handed over.

    join             registers, fenced; returns once this node's image of the metadata holds the registration
    serve            heartbeats that no longer want the broker fenced; returns once it is in service
    run              heartbeats: every broker.heartbeat.interval.ms, and at once when there is something to say
                     or another broker shuts down
    shut_down        a controlled shutdown: what this broker leads is handed over, and it is fenced

A broker that has the controller in its own process and no other broker beside it sends none: nobody would miss it. Its
registration and its first heartbeat are written before either is waited for, which saves its start a sync of the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import trio

from kpybroker.cluster.errors import FolderUntold, MetadataError
from kpybroker.cluster.features import CORDONED_DIRECTORIES_SINCE, DIRECTORIES_SINCE, SUPPORTED
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.allocate_producer_ids import AllocateProducerIdsRequest, AllocateProducerIdsResponse
from kpybroker.wire.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from kpybroker.wire.messages.broker_registration import (
    BrokerRegistrationRequest,
    BrokerRegistrationResponse,
    Feature,
    Listener,
)
from kpybroker.wire.schema import replace

if TYPE_CHECKING:
    from kpybroker.cluster.controller_link import ControllerLink
    from kpybroker.cluster.delta import Delta
    from kpybroker.cluster.image import BrokerImage, ClusterImage, Endpoint
    from kpybroker.cluster.raft_node import RaftNode

log = logging.getLogger(__name__)

REGISTRATION_VERSION = 4
"""The version of BrokerRegistration that this node's own broker speaks to a controller in its process."""
REGISTER_AGAIN_S = 0.5
"""When a registration that was refused is tried again: mostly a former incarnation that is still believed alive."""
NOBODY_ANSWERS_S = 3.0
"""How long a broker that stops looks for a controller to hand over to: when a whole cluster stops, the last nodes have
none. An election takes less."""
SHUTTING_DOWN_S = 0.05
"""Between heartbeats of a broker that waits for what it leads to be handed over."""
TELL_AGAIN_S = 5.0
"""When a controller in this process, which can't write now, is told again of this node's data folders."""

FORGOTTEN = (Code.STALE_BROKER_EPOCH, Code.BROKER_ID_NOT_REGISTERED)
"""What a controller says to the heartbeat of a broker whose registration it does not have (any more)."""


class RegistrationFailed(MetadataError):
    """The controller did not let this broker register within initial.broker.registration.timeout.ms."""


def _one_leaves(delta: Delta, image: ClusterImage) -> bool:
    """Whether a broker shuts down, and waits until the controller has heard from all others that they know."""
    brokers = (image.brokers.get(broker_id) for broker_id in delta.broker_ids)
    return any(broker is not None and broker.in_controlled_shutdown for broker in brokers)


class LifecycleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says of it."""

    heartbeat_s: float
    registration_timeout_s: float
    folder_failure_s: float
    """How long the controller may not be told of a data folder that has failed, before the node stops."""


class BrokerLifecycle:
    """The broker of this node; `run` is a task of the node's."""

    def __init__(
        self,
        raft: RaftNode,
        *,
        node_id: int,
        cluster_id: str,
        incarnation_id: bytes,
        directories: Mapping[str, bytes],
        cordoned: frozenset[bytes],
        settings: LifecycleSettings,
        heartbeats: ControllerLink,
        requests: ControllerLink,
    ) -> None:
        """`heartbeats` carries registrations and heartbeats, `requests` all else that this broker asks."""
        self.epoch = -1
        """The epoch of this broker's registration; -1 before the first."""
        self._raft = raft
        self._node_id = node_id
        self._cluster_id = cluster_id
        self.incarnation_id = incarnation_id
        self._directories = directories
        self._cordoned = cordoned
        self._settings = settings
        self._heartbeats = heartbeats
        self._requests = requests
        self._offline: list[bytes] = []
        self._untold: dict[bytes, float] = {}
        """Of those, what the controller does not know, and until when it must."""
        self._registration: BrokerRegistrationRequest | None = None
        self._amended = False
        """The registration was written anew, with the data folders; the metadata may not say so yet."""
        self._heard_s = float("-inf")
        self._in_service = False
        self._stopping = False
        self._was_alone = False
        self._beating = trio.CancelScope()
        self._due = trio.Event()
        self._changed = trio.Event()
        raft.on_change(self._follow)

    @property
    def heard_s(self) -> float:
        """When the newest heartbeat was sent that the controller has answered, monotonic seconds.

        Now for a broker that sends none: it is not registered yet, or the controller is in its process.
        """
        return trio.current_time() if self._alone or self.epoch < 0 else self._heard_s

    @property
    def registered(self) -> BrokerImage | None:
        """The registration as the metadata has it; None: there is none, or it is another's."""
        broker = self._raft.image.brokers.get(self._node_id)
        return broker if broker is not None and broker.epoch == self.epoch else None

    # Coming

    async def join(self, endpoints: Sequence[Endpoint], *, rack: str | None, previous_epoch: int) -> None:
        """Register, fenced; alone with the controller in this process, be in service at once.

        `previous_epoch`: what the clean-shutdown marker says, -1 if there was none: then what the broker held as the
        last one in sync may be short of acknowledged records, and Kafka's rules for that apply (KIP-966).
        Raises: RegistrationFailed; Refused by a controller in this process.
        """
        request = self._registration = self._register_request(endpoints, rack, previous_epoch)
        if self._alone:
            await self._join_alone(request)
            return
        with trio.move_on_after(self._settings.registration_timeout_s):
            await self._register(request)
            while self.registered is None:
                await self._changed.wait()
            return
        raise RegistrationFailed("Shutting down because we were unable to register with the controller quorum.")

    async def serve(self) -> None:
        """Be taken into service, by the heartbeats of `run`: from then on this broker may lead partitions."""
        self._in_service = True
        self._due.set()
        while (broker := self.registered) is None or broker.fenced:
            await self._changed.wait()

    async def _join_alone(self, request: BrokerRegistrationRequest) -> None:
        """Register and be unfenced. This broker shares the controller's image, so it is caught up."""
        controller = self._heartbeats.local
        assert controller is not None
        promise = controller.begin_register(request, api_version=REGISTRATION_VERSION)
        self.epoch = promise.response.broker_epoch
        self._in_service = True
        await controller.broker_heartbeat(self._heartbeat(offset=promise.offset))

    async def _register(self, registration: BrokerRegistrationRequest) -> None:
        """Ask until the controller agrees."""
        while True:
            request, sent_s = replace(registration, log_dirs=self._online()), trio.current_time()
            try:
                response = await self._heartbeats.ask(request, BrokerRegistrationResponse)
            except Refused as refused:
                log.info("broker %d is not registered: %s", self._node_id, refused)
                await trio.sleep(min(REGISTER_AGAIN_S, self._settings.heartbeat_s))
            else:
                self.epoch, self._heard_s = response.broker_epoch, sent_s
                log.info("broker %d is registered with broker epoch %d", self._node_id, self.epoch)
                return

    def _register_request(
        self, endpoints: Sequence[Endpoint], rack: str | None, previous_epoch: int
    ) -> BrokerRegistrationRequest:
        return BrokerRegistrationRequest(
            broker_id=self._node_id,
            cluster_id=self._cluster_id,
            incarnation_id=self.incarnation_id,
            listeners=[
                Listener(name=point.name, host=point.host, port=point.port, security_protocol=point.security_protocol)
                for point in endpoints
            ],
            features=[
                Feature(name=name, min_supported_version=low, max_supported_version=high)
                for name, (low, high) in SUPPORTED.items()
            ],
            rack=rack,
            log_dirs=self._online(),
            previous_broker_epoch=previous_epoch,
        )

    def _online(self) -> list[bytes]:
        return [each for each in self._directories.values() if each not in self._offline]

    # Being there

    async def run(self) -> None:
        """Send heartbeats until cancelled; register anew what the metadata could not hold before.

        Raises: FolderUntold.
        """
        next_s = self._settings.heartbeat_s
        while True:
            with trio.move_on_after(float("inf") if self._alone else next_s):
                await self._due.wait()
            self._due = trio.Event()
            if self.epoch < 0 or self._stopping:
                continue
            if self._outdated and self._registration is not None:
                await self._register(self._registration)
                self._amended = True
                self._tell_directories()
            elif self._alone:
                await trio.sleep(TELL_AGAIN_S)
                self._tell_directories()
            else:
                with trio.CancelScope() as self._beating:
                    await self._beat()

    async def _beat(self) -> None:
        """Raises: FolderUntold."""
        told = list(self._offline)
        with trio.move_on_at(min(self._untold.values(), default=float("inf"))):
            try:
                await self._ask()
            except Refused as refused:
                # Also when it was unregistered, or another has come under its id: it stays out until it starts anew.
                log.warning("broker %d sent a heartbeat and was refused: %s", self._node_id, refused)
            else:
                for directory in told:
                    self._untold.pop(directory, None)
        for directory, deadline_s in self._untold.items():
            if trio.current_time() >= deadline_s:
                path = next(path for path, id_ in self._directories.items() if id_ == directory)
                raise FolderUntold(
                    f"Shutting down because couldn't communicate offline log dir {path} with controllers"
                )

    def _follow(self, delta: Delta, image: ClusterImage) -> None:
        """The metadata has changed: who waits for that looks again, and so does the controller at a fenced broker."""
        self._changed.set()
        self._changed = trio.Event()
        if _one_leaves(delta, image):
            self._due.set()
        broker = image.brokers.get(self._node_id)
        waiting = self._in_service and broker is not None and broker.epoch == self.epoch and broker.fenced
        if delta.broker_ids and self._was_alone != self._alone:
            self._was_alone, self._heard_s, waiting = not self._was_alone, trio.current_time(), True
        if waiting or self._outdated:
            self._due.set()

    @property
    def _outdated(self) -> bool:
        """Whether the registration has no data folders, though metadata.version has been raised to one that has them.

        As in Kafka's broker, that registers again under the same incarnation then (KIP-858).
        """
        broker = self.registered
        version = self._raft.image.features.metadata_version or 0
        return broker is not None and not broker.directories and version >= DIRECTORIES_SINCE and not self._amended

    @property
    def _alone(self) -> bool:
        """Whether the quorum is this process, and no other broker registered: heartbeats would tell nobody anything."""
        return (
            self._heartbeats.local is not None
            and self._raft.is_lone_voter
            and not self._raft.image.brokers.keys() - {self._node_id}
        )

    async def _ask(self, *, timeout_s: float | None = None) -> BrokerHeartbeatResponse:
        """Send a heartbeat. Raises: Refused."""
        sent_s = trio.current_time()
        response = await self._heartbeats.ask(self._heartbeat(), BrokerHeartbeatResponse, timeout_s=timeout_s)
        self._heard_s = sent_s
        return response

    def _heartbeat(self, *, offset: int | None = None) -> BrokerHeartbeatRequest:
        image = self._raft.image
        version = image.features.metadata_version
        if version is None:  # a new cluster's first start: its features are in what the controller has just written
            version = CORDONED_DIRECTORIES_SINCE
        return BrokerHeartbeatRequest(
            broker_id=self._node_id,
            broker_epoch=self.epoch,
            current_metadata_offset=image.offset if offset is None else offset,
            want_fence=not self._in_service,
            want_shut_down=self._stopping,
            offline_log_dirs=list(self._offline) if version >= DIRECTORIES_SINCE else [],
            cordoned_log_dirs=sorted(self._cordoned) if version >= CORDONED_DIRECTORIES_SINCE else None,
        )

    # What becomes of its folders

    def cordon(self, paths: Iterable[str]) -> None:
        """These of the data folders take no new partitions from now on: the controller hears of it (KIP-1066)."""
        cordoned = frozenset(self._directories[path] for path in paths)
        if cordoned != self._cordoned:
            self._cordoned = cordoned
            self._tell_directories()

    def directory_failed(self, path: str) -> None:
        """A data folder is offline from now on: the controller takes leadership of what is in it away (KIP-858)."""
        self._offline.append(self._directories[path])
        if not self._alone:
            self._untold[self._directories[path]] = trio.current_time() + self._settings.folder_failure_s
        self._tell_directories()

    def _tell_directories(self) -> None:
        """Now, or as soon as the controller can be told."""
        controller, broker = self._heartbeats.local, self.registered
        if not self._alone:
            self._due.set()
        elif controller is not None and broker is not None and broker.active:
            try:
                controller.begin_heartbeat(self._heartbeat())
            except Refused as refused:
                log.warning("the controller cannot be told of the data folders now: %s", refused.message)
                self._due.set()

    # What it asks

    async def assign_directories(self, places: Mapping[tuple[bytes, int], bytes]) -> None:
        """Have the metadata say in which folders this node's replicas are, by topic id and partition (KIP-858).

        Those that the controller does not know (any more) are left out. Raises: Refused.
        """
        from kpybroker.cluster.machines.assign_directories import assignments_request
        from kpybroker.wire.messages.assign_replicas_to_dirs import AssignReplicasToDirsResponse

        request = assignments_request(self._node_id, self.epoch, places)
        await self._requests.ask(request, AssignReplicasToDirsResponse)

    async def allocate_producer_ids(self) -> range:
        """A block of producer ids for this broker's producers. Raises: Refused."""
        request = AllocateProducerIdsRequest(broker_id=self._node_id, broker_epoch=self.epoch)
        response = await self._requests.ask(request, AllocateProducerIdsResponse)
        start = response.producer_id_start
        return range(start, start + response.producer_id_len)

    # Leaving

    async def shut_down(self) -> None:
        """Hand over what this broker leads, and be fenced; nothing is left to one that was unregistered.

        Raises: Refused.
        """
        self._stopping = True
        self._beating.cancel()  # one that is sent again afterwards would ask to be taken back into service
        while self.registered is not None:
            try:
                response = await self._ask(timeout_s=NOBODY_ANSWERS_S)
            except Refused as refused:
                if refused.code in FORGOTTEN:  # this node is not told yet
                    return
                raise
            if response.should_shut_down:
                return
            if not self._alone:
                with trio.move_on_after(SHUTTING_DOWN_S):
                    await self._changed.wait()
