"""The active controller: requests are decided one by one, written to the metadata log, answered when committed.

Deciding, appending and applying are one step of the loop with nothing in between, so the order in which requests arrive
is the order in which they happen, and each is decided on what those before it did. Only the answer waits: until the
records are committed, and for a request that changed nothing, until everything it may have seen is.

A request that was cancelled while it waited is carried out all the same. What decides about topics and configs is
imported when it is first asked: a node that starts needs none of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import trio

from kpybroker.clock import Clock
from kpybroker.cluster.addresses import Resolver
from kpybroker.cluster.duties import Duties, Ending
from kpybroker.cluster.errors import BatchTooLarge
from kpybroker.cluster.features import KRAFT_VERSION
from kpybroker.cluster.image import ClusterImage, Endpoint
from kpybroker.cluster.machines.activation import activation_records, registration_of_controller
from kpybroker.cluster.machines.brokers import broker_at_epoch, fence, heartbeat, register_broker
from kpybroker.cluster.machines.decision import Caller, Decision, Settings, State
from kpybroker.cluster.machines.producer_ids import allocate_producer_ids
from kpybroker.cluster.metadata_log import MetadataLog
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.ids import Ids
from kpybroker.seldom import SeldomLog
from kpybroker.storage.errors import StorageFailed
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.allocate_producer_ids import AllocateProducerIdsRequest, AllocateProducerIdsResponse
from kpybroker.wire.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from kpybroker.wire.messages.broker_registration import BrokerRegistrationRequest, BrokerRegistrationResponse

if TYPE_CHECKING:
    from kpybroker.cluster.machines.quorum_requests import QuorumView
    from kpybroker.peers.channel import Connector
    from kpybroker.wire.messages.alter_client_quotas import AlterClientQuotasRequest, AlterClientQuotasResponse
    from kpybroker.wire.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse
    from kpybroker.wire.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse
    from kpybroker.wire.messages.alter_partition_reassignments import (
        AlterPartitionReassignmentsRequest,
        AlterPartitionReassignmentsResponse,
    )
    from kpybroker.wire.messages.assign_replicas_to_dirs import (
        AssignReplicasToDirsRequest,
        AssignReplicasToDirsResponse,
    )
    from kpybroker.wire.messages.controller_registration import (
        ControllerRegistrationRequest,
        ControllerRegistrationResponse,
    )
    from kpybroker.wire.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsResponse
    from kpybroker.wire.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
    from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
    from kpybroker.wire.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse
    from kpybroker.wire.messages.incremental_alter_configs import (
        IncrementalAlterConfigsRequest,
        IncrementalAlterConfigsResponse,
    )
    from kpybroker.wire.messages.list_partition_reassignments import (
        ListPartitionReassignmentsRequest,
        ListPartitionReassignmentsResponse,
    )
    from kpybroker.wire.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse
    from kpybroker.wire.messages.update_features import UpdateFeaturesRequest, UpdateFeaturesResponse

R = TypeVar("R")

_SEEDS = 2**31


class Promise(NamedTuple, Generic[R]):
    """An answer that may be given once everything up to and including `offset` is committed."""

    offset: int
    response: R
    term: int
    """Which leadership of this controller it was given in: in another one the offset means something else."""


class Controller:
    """The controller of a node that may lead the metadata quorum.

    `activate` when the node leads, `renounce` when it has ceased to, `fail` when all is over; `run` all the time.
    """

    def __init__(
        self, log: MetadataLog, settings: Settings, clock: Clock, ids: Ids, *, connector: Connector | None = None
    ) -> None:
        """`connector`: how brokers that are suspected dead are looked after, None: by TCP."""
        self.settings = settings
        self.appended = trio.Event()
        """Set when something was appended; whoever commits puts a new one in its place."""
        self._log = log
        self._clock = clock
        self._ids = ids
        self._say = SeldomLog(logging.getLogger(__name__), clock)
        self._resolver = Resolver()
        self._duties = Duties(settings, clock, state=self._state, append=self._append, connector=connector)
        self._duties.observed = self._is_observed
        self._progress = trio.Event()
        """Set, and replaced, whenever the high watermark moved or the controller failed."""
        self._failure: BaseException | None = None
        self._active = False
        self._term = 0
        self._endpoints: tuple[Endpoint, ...] = ()
        """Where this controller listens, as others are told."""

    # Requests

    async def create_topics(self, request: CreateTopicsRequest, caller: Caller) -> CreateTopicsResponse:
        """Create topics, or with validate_only only check them. Raises: Refused(POLICY_VIOLATION, NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.create_topics import create_topics

        topic_ids = [self._ids.uuid() for _ in request.topics]
        seed = self._ids.randrange(_SEEDS)
        return await self._carry_out(
            lambda state: create_topics(state, request, caller, topic_ids=topic_ids, seed=seed)
        )

    async def delete_topics(self, request: DeleteTopicsRequest, caller: Caller) -> DeleteTopicsResponse:
        """Delete topics. Raises: Refused(TOPIC_DELETION_DISABLED, POLICY_VIOLATION, NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.delete_topics import delete_topics

        return await self._carry_out(lambda state: delete_topics(state, request, caller))

    async def create_partitions(self, request: CreatePartitionsRequest, caller: Caller) -> CreatePartitionsResponse:
        """Add partitions to topics. Raises: Refused(POLICY_VIOLATION, NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.create_partitions import create_partitions

        seed = self._ids.randrange(_SEEDS)
        return await self._carry_out(lambda state: create_partitions(state, request, caller, seed=seed))

    async def incremental_alter_configs(
        self, request: IncrementalAlterConfigsRequest, caller: Caller
    ) -> IncrementalAlterConfigsResponse:
        """Change single dynamic configs. Raises: Refused(POLICY_VIOLATION, NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.alter_configs import incremental_alter_configs

        return await self._carry_out(lambda state: incremental_alter_configs(state, request, caller))

    async def alter_configs(self, request: AlterConfigsRequest, caller: Caller) -> AlterConfigsResponse:
        """Replace the dynamic configs of resources. Raises: Refused(POLICY_VIOLATION, NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.alter_configs import alter_configs

        return await self._carry_out(lambda state: alter_configs(state, request, caller))

    async def alter_client_quotas(self, request: AlterClientQuotasRequest, caller: Caller) -> AlterClientQuotasResponse:
        """Set and remove quotas. Raises: Refused(CLUSTER_AUTHORIZATION_FAILED, POLICY_VIOLATION, NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.alter_client_quotas import addresses_named, alter_client_quotas

        known = await self._resolver.resolved(addresses_named(request))
        return await self._carry_out(lambda state: alter_client_quotas(state, request, caller, resolved=known))

    async def elect_leaders(self, request: ElectLeadersRequest) -> ElectLeadersResponse:
        """Elect leaders of partitions. Raises: Refused(INVALID_REQUEST, POLICY_VIOLATION, NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.elect_leaders import elect_leaders

        return await self._carry_out(lambda state: elect_leaders(state, request))

    async def alter_partition_reassignments(
        self, request: AlterPartitionReassignmentsRequest
    ) -> AlterPartitionReassignmentsResponse:
        """Move partitions, or cancel that. Raises: Refused(POLICY_VIOLATION, NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.reassignments import alter_partition_reassignments

        return await self._carry_out(lambda state: alter_partition_reassignments(state, request))

    async def list_partition_reassignments(
        self, request: ListPartitionReassignmentsRequest
    ) -> ListPartitionReassignmentsResponse:
        """The moves under way. Raises: Refused(NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.reassignments import list_partition_reassignments

        return await self._carry_out(lambda state: list_partition_reassignments(state, request))

    async def unregister_broker(self, request: UnregisterBrokerRequest) -> UnregisterBrokerResponse:
        """Forget a broker. Raises: Refused(BROKER_ID_NOT_REGISTERED, NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.unregister_broker import unregister_broker

        return await self._carry_out(lambda state: unregister_broker(state, request))

    async def update_features(self, request: UpdateFeaturesRequest, caller: Caller) -> UpdateFeaturesResponse:
        """Change finalized feature levels. Raises: Refused(NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.update_features import QuorumLevel, update_features

        raft = self._log.raft
        quorum = QuorumLevel(raft.kraft_version, [voter.id for voter in raft.voters])
        decision = update_features(self._state(), request, quorum, api_version=caller.api_version)
        if decision.upgrade_kraft:
            endpoints = tuple((point.name, point.host, point.port) for point in self._endpoints)
            upgraded = self._log.upgraded_quorum(endpoints)
            self._write(lambda now_ms: self._log.change_quorum(upgraded, now_ms))
        return await self.keep(Promise(self._append(decision.records), decision.response, self._term))

    def quorum(self) -> QuorumView:
        """The metadata quorum as it is now. Raises: Refused(NOT_CONTROLLER)."""
        from kpybroker.cluster.quorum_changes import quorum_view

        self._state()
        raft = self._log.raft
        assert raft.leadership is not None, "an active controller leads the quorum"
        return quorum_view(raft, raft.leadership, self.settings.cluster_id, self._endpoints)

    async def assign_replicas_to_dirs(self, request: AssignReplicasToDirsRequest) -> AssignReplicasToDirsResponse:
        """Record in which folders a broker's replicas are. Raises: Refused(STALE_BROKER_EPOCH, NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.assign_directories import assign_replicas_to_dirs

        return await self._carry_out(lambda state: assign_replicas_to_dirs(state, request))

    async def allocate_producer_ids(self, request: AllocateProducerIdsRequest) -> AllocateProducerIdsResponse:
        """Hand out a block of producer ids. Raises: Refused(STALE_BROKER_EPOCH, NOT_CONTROLLER)."""
        return await self._carry_out(lambda state: allocate_producer_ids(state, request))

    async def alter_partition(self, request: AlterPartitionRequest, *, api_version: int) -> AlterPartitionResponse:
        """Change the in-sync replicas of partitions. Raises: Refused(STALE_BROKER_EPOCH, NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.alter_partition import alter_partition

        return await self._carry_out(lambda state: alter_partition(state, request, api_version=api_version))

    async def register_controller(self, request: ControllerRegistrationRequest) -> ControllerRegistrationResponse:
        """Take note of a controller. Raises: Refused(UNSUPPORTED_VERSION, NOT_CONTROLLER)."""
        from kpybroker.cluster.machines.controller_registration import register_controller

        return await self._carry_out(lambda state: register_controller(state, request))

    async def register_broker(
        self, request: BrokerRegistrationRequest, *, api_version: int
    ) -> BrokerRegistrationResponse:
        """Register a broker; its former incarnation must be dead. Raises: Refused."""
        promise = self.begin_register(request, api_version=api_version)
        return await self.keep(promise)

    def begin_register(
        self, request: BrokerRegistrationRequest, *, api_version: int
    ) -> Promise[BrokerRegistrationResponse]:
        """As `register_broker`, in two steps: what is done is done, `keep` waits for it to be committed."""
        sessions = self._duties.sessions
        decision = register_broker(
            self._state(),
            request,
            api_version=api_version,
            next_offset=self._log.log_end_offset,
            finalized=self.finalized_levels(self._log.image),
            former_lives=sessions.lives(request.broker_id, self._clock.monotonic_s()),
        )
        last_offset = self._append(decision.records)
        sessions.registered(request.broker_id, decision.response.broker_epoch, last_offset)
        return Promise(last_offset, decision.response, self._term)

    async def broker_heartbeat(self, request: BrokerHeartbeatRequest) -> BrokerHeartbeatResponse:
        """A broker says how it is, or that it wants to be fenced, unfenced or stopped. Raises: Refused."""
        return await self.keep(self.begin_heartbeat(request))

    def begin_heartbeat(
        self, request: BrokerHeartbeatRequest, *, by: Ending | None = None
    ) -> Promise[BrokerHeartbeatResponse]:
        """As `broker_heartbeat`, in two steps. `by`: the connection that it came by, if any: its end is a sign."""
        sessions = self._duties.sessions
        state = self._state()
        broker = broker_at_epoch(state.image, request.broker_id, request.broker_epoch)
        session = sessions.heard(broker, self._clock.monotonic_s(), request.current_metadata_offset)
        if by is not None:
            self._duties.heard_by(broker, by)
        decision = heartbeat(state, request, sessions.of_brokers)
        last_offset = self._append(decision.records)
        if decision.response.response.should_shut_down:
            sessions.over(broker.id)
        elif not decision.response.shutting_down:
            session.shutdown_offset = None
        elif session.shutdown_offset is None:
            session.shutdown_offset = last_offset
        self._duties.wake()
        return Promise(last_offset, decision.response.response, self._term)

    async def keep(self, promise: Promise[R]) -> R:
        """Wait until what was promised is committed. Raises: Refused(NOT_CONTROLLER)."""
        await self._committed(promise.offset, promise.term)
        return promise.response

    def finalized_levels(self, image: ClusterImage) -> Mapping[str, int]:
        """The finalized feature levels, kraft.version among them (it is the quorum's, not a metadata record)."""
        kraft_version = self._log.quorum.kraft_version
        return {**image.features.levels, **({KRAFT_VERSION: kraft_version} if kraft_version else {})}

    # Leading

    def activate(
        self, bootstrap: list[MetadataRecord], *, incarnation_id: bytes, endpoints: tuple[Endpoint, ...]
    ) -> None:
        """Begin to lead: what was left undone, our registration; whoever is in service has a session from now on.

        But a former incarnation of our own broker is dead for certain: its lock on the data folder is ours. So it is
        fenced, unless it is the present one: `incarnation_id` is our process's. Raises: Refused.
        """
        self._active = True
        self._term += 1
        self._endpoints = endpoints
        open_ = self._log.transaction_open
        self._append(activation_records(self._state(), bootstrap, transaction_open=open_))
        node_id = self.settings.node_id
        registration = registration_of_controller(
            self._log.image, node_id=node_id, incarnation_id=incarnation_id, endpoints=endpoints
        )
        self._append(registration)
        own = self._log.image.brokers.get(node_id)
        if own is not None and not own.fenced and own.incarnation_id != incarnation_id:
            self._append(fence(self._state(), node_id))
        self._duties.begin(self._log.raft.leader_heard)

    def renounce(self) -> None:
        """Another node leads, or none: whoever waits is told so. What was not committed may never be."""
        self._active = False
        self._term += 1
        self._duties.end()
        self.committed_more()

    async def run(self) -> None:
        """Fence brokers that are gone, hold the elections that are due, and so on; until cancelled."""
        await self._duties.run()

    def committed_more(self) -> None:
        """The high watermark moved: wake who waited for it."""
        self._progress.set()
        self._progress = trio.Event()

    def fail(self, why: BaseException) -> None:
        """The controller is over: every request that waits, and every later one, is refused."""
        self._failure = self._failure or why
        self._active = False
        self._duties.end()
        self.committed_more()
        self.appended.set()

    @property
    def failure(self) -> BaseException | None:
        """What ended it, None while it is well."""
        return self._failure

    # Inside

    async def _carry_out(self, decide: Callable[[State], Decision[R]]) -> R:
        decision = decide(self._state())
        return await self.keep(Promise(self._append(decision.records), decision.response, self._term))

    def _state(self) -> State:
        if not self._active:
            raise self._not_controller()
        return State(self._log.image, self.settings)

    def _not_controller(self) -> Refused:
        leader_id = self._log.raft.leader_id
        if leader_id is None or leader_id == self.settings.node_id:
            return Refused(Code.NOT_CONTROLLER, "No controller appears to be active.")
        return Refused(Code.NOT_CONTROLLER, f"The active controller appears to be node {leader_id}.")

    def _is_observed(self) -> bool:
        """Whether another node follows the metadata log: a voter, or a broker in service."""
        node_id = self.settings.node_id
        if any(voter.id != node_id for voter in self._log.raft.voters):
            return True
        return any(not broker.fenced and broker.id != node_id for broker in self._log.image.brokers.values())

    def _append(self, records: Sequence[MetadataRecord]) -> int:
        """Write records; returns the offset that must be committed before anybody is told. Raises: Refused."""
        if records:
            self._write(lambda now_ms: self._log.append(records, now_ms))
        return self._log.log_end_offset - 1

    def _write(self, write: Callable[[int], object]) -> None:
        """Have the log written to. Raises: Refused.

        Kafka's controller ends when it cannot write, whatever the reason. For want of room nothing is decided here, and
        whoever asked may ask again.
        """
        end = self._log.log_end_offset
        try:
            write(self._clock.wall_ms())
        except BatchTooLarge as error:
            # Kafka's controller resigns over it; here whoever asks for so much is refused.
            self._say(logging.WARNING, 0, "not written: %s", error)
            raise Refused(Code.UNKNOWN_SERVER_ERROR) from error
        except StorageFailed as error:
            if error.temporary and self._log.log_end_offset == end:
                self._say(logging.ERROR, error.error.errno, "the metadata log cannot be written: %s", error)
                raise Refused(Code.KAFKA_STORAGE_ERROR, str(error)) from error
            self.fail(error)
            raise Refused(Code.NOT_CONTROLLER, "The controller failed.") from error
        except Exception as error:  # whatever it was: log and image may disagree now, so the node must end
            self.fail(error)
            raise Refused(Code.NOT_CONTROLLER, "The controller failed.") from error
        self._duties.appended()
        self.appended.set()

    async def _committed(self, offset: int, term: int) -> None:
        """Wait until everything up to and including `offset` is committed. Raises: Refused(NOT_CONTROLLER)."""
        while True:
            if self._term != term:
                raise self._not_controller()
            if self._log.high_watermark > offset:
                return
            if self._failure is not None:
                raise Refused(Code.NOT_CONTROLLER, "The controller failed.") from self._failure
            await self._progress.wait()
