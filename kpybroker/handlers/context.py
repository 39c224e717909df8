"""What a handler may use: the node's services, and who is asking.

One Context is made per request. A handler that has to wait does so through it (`wait`, `wait_answer`), so that the
end of the connection ends the wait and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import msgspec
import trio

from kpybroker.cluster.machines.decision import Caller
from kpybroker.security.authorizer import NOT_ASKED, Authorizer, authorized_operations
from kpybroker.security.operations import AUTHORIZATION_FAILED, CLUSTER_NAME, Operation, Resource
from kpybroker.security.principal import ANONYMOUS, Principal
from kpybroker.wire.codes import Code, Refused

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.cluster.controller import Controller
    from kpybroker.cluster.image import ClusterImage, Endpoint, PartitionImage
    from kpybroker.cluster.service import Cluster
    from kpybroker.config import BrokerConfig
    from kpybroker.config.live import LiveConfig
    from kpybroker.coordinators.service import Groups
    from kpybroker.coordinators.transactions import Transactions
    from kpybroker.coordinators.txn_verifier import TxnVerifier
    from kpybroker.handlers.account import Account
    from kpybroker.handlers.forwarding import ControllerHandlers
    from kpybroker.ids import Ids
    from kpybroker.metrics.client_telemetry import ClientTelemetry
    from kpybroker.quotas.client_quotas import ClientQuotas
    from kpybroker.replication.fetch_sessions import FetchSessions
    from kpybroker.replication.moves import Moves
    from kpybroker.replication.producer_ids import ProducerIds
    from kpybroker.replication.replicas import Replicas
    from kpybroker.replication.txn_markers import TxnMarkers
    from kpybroker.wire.api_keys import Api
    from kpybroker.wire.schema import Message

R = TypeVar("R", bound="Message")


class CloseConnection(Exception):
    """There is no answer to this request (an error with acks=0, a request that cannot be one): the connection ends."""


class Forwarding(Protocol):
    """The active controller, wherever it is: in this process, or behind an Envelope."""

    async def forward(self, ctx: Context, request: Message) -> Message:
        """Have the controller carry `request` out on behalf of the client of `ctx`, and return its response."""
        ...

    async def ask(self, ctx: Context, request: Message) -> Message:
        """The same on behalf of this broker, which is the client of `ctx` (`Context.as_broker`)."""
        ...


class Answer(Protocol):
    """What comes later, to somebody who waits for it."""

    wake: Callable[[], None] | None
    """Called when it has come."""

    @property
    def answered(self) -> bool:
        """Whether it has come."""


class Later(ABC):
    """A response that depends on what others still have to do; nothing else of its request is left to be done.

    The next Produce of the same connection need not wait for it: only the answers keep their order.
    """

    __slots__ = ("awaited", "limit_s", "wake")

    def __init__(self, limit_s: float) -> None:
        """`limit_s`: for how long it is waited for at most."""
        self.limit_s = limit_s
        self.awaited = 0
        """How many things have not happened yet."""
        self.wake: Callable[[], None] | None = None
        """Called when all have happened."""

    def happened(self) -> None:
        """One of them has happened."""
        self.awaited -= 1
        if not self.awaited and self.wake is not None:
            self.wake()

    @abstractmethod
    def response(self) -> Message | None:
        """The response as it is now, whether all has happened or not; None is no answer. Raises: CloseConnection."""


class Door(Protocol):
    """What a handler may ask of the connection that its request came by."""

    def advertised(self) -> list[tuple[Api, int, int]]:
        """The APIs served on the connection's listener, each with its least and greatest version."""
        ...

    def mute(self, throttle_ms: int) -> None:
        """Read nothing from the peer for that long, once the request at hand is answered (KIP-219)."""
        ...

    def at_end(self, call: Callable[[], None]) -> None:
        """Have `call` called when the connection ends."""
        ...

    async def wait(self, event: trio.Event, limit_s: float) -> bool:
        """Wait for `event`, at most `limit_s` seconds and no longer than the peer stays; whether it happened."""
        ...

    async def send_answers(self) -> None:
        """Send the answers to earlier requests, once they are there: a Produce that waits in `handle` does so first."""
        ...

    async def wait_answer(self, answer: Answer) -> None:
        """Return when `answer` has come. Raises: CloseConnection when the peer leaves first."""
        ...


class BrokerServices(msgspec.Struct, kw_only=True):
    """What only a broker has: partitions, and what coordinates by them. The controller's handlers use none of it."""

    replicas: Replicas
    moves: Moves
    fetch_sessions: FetchSessions
    producer_ids: ProducerIds
    groups: Groups
    transactions: Transactions
    txn_markers: TxnMarkers
    txn_verifier: TxnVerifier


class Services(msgspec.Struct, kw_only=True):
    """The parts of a node that handlers use; built by node.py, alive as long as the node."""

    live: LiveConfig
    clock: Clock
    ids: Ids
    cluster: Cluster
    active_controller: Controller
    """The controller of this process, active or not."""
    controller: Forwarding
    controller_handlers: ControllerHandlers
    telemetry: ClientTelemetry
    authorizer: Authorizer
    quotas: ClientQuotas
    broker: BrokerServices | None = None
    """None on a node that is only a controller: it has no listener whose handlers would ask for them."""

    @property
    def config(self) -> BrokerConfig:
        """The node's configuration as it is now, the cluster's dynamic settings included."""
        return self.live.current

    @property
    def of_broker(self) -> BrokerServices:
        """The broker's services, on a node that is a broker."""
        assert self.broker is not None, "a handler of the broker's on a node that is none"
        return self.broker


class Client(msgspec.Struct, kw_only=True):
    """Who is at the other end of a connection, and by which door they came."""

    listener: str
    host: str
    port: int
    principal: Principal
    forwarded: bool = False
    """A broker vouches for them: the request came in an Envelope."""
    software_name: str = ""
    software_version: str = ""


class LeaderHint(NamedTuple):
    """Who leads a partition, for a client that asked the wrong node (KIP-951)."""

    leader_id: int
    leader_epoch: int
    endpoint: Endpoint | None
    """Where the leader listens, on the listener that the client came by; None if it has none there or is away."""
    rack: str | None


class Context:
    """One request's view of the node."""

    __slots__ = ("_endpoints", "account", "client", "client_id", "connection", "correlation_id", "services", "version")

    def __init__(
        self,
        services: Services,
        connection: Door,
        client: Client,
        version: int,
        correlation_id: int,
        client_id: str | None,
    ) -> None:
        self.services = services
        self.connection = connection
        self.client = client
        self.version = version
        self.correlation_id = correlation_id
        self.client_id = client_id
        self.account: Account | None = None
        """What the request uses; None while no quota is set."""
        self._endpoints: dict[int, Endpoint] | None = None

    @property
    def image(self) -> ClusterImage:
        """The cluster as of the last metadata record that this node has applied."""
        return self.services.cluster.image

    @property
    def replicas(self) -> Replicas:
        """The partitions that this node holds."""
        return self.services.of_broker.replicas

    @property
    def groups(self) -> Groups:
        """The group coordinator."""
        return self.services.of_broker.groups

    @property
    def transactions(self) -> Transactions:
        """The transaction coordinator."""
        return self.services.of_broker.transactions

    @property
    def controller(self) -> Forwarding:
        """The active controller."""
        return self.services.controller

    @property
    def config(self) -> BrokerConfig:
        """The node's configuration as it is now."""
        return self.services.config

    @property
    def clock(self) -> Clock:
        """The node's clock."""
        return self.services.clock

    @property
    def ids(self) -> Ids:
        """Where identifiers and random choices come from."""
        return self.services.ids

    def advertised(self) -> list[tuple[Api, int, int]]:
        """The APIs served on the client's listener, each with its least and greatest version."""
        return self.connection.advertised()

    def endpoint(self, broker_id: int) -> Endpoint | None:
        """Where a broker listens, on the listener that the client came by; None: unknown, fenced or not there."""
        if self._endpoints is None:  # once a request: a Metadata of thousands of partitions asks for each of them
            self._endpoints = {
                broker.id: endpoint
                for broker in self.image.brokers.values()
                for endpoint in broker.endpoints
                if endpoint.name == self.client.listener and not broker.fenced
            }
        return self._endpoints.get(broker_id)

    def leader_hint(self, topic: str, index: int) -> LeaderHint | None:
        """Who leads a partition; None if there is no such partition."""
        known = self.image.topics.by_name.get(topic)
        partition = known.partitions.get(index) if known is not None else None
        if partition is None:
            return None
        broker = self.image.brokers.get(partition.leader)
        rack = broker.rack if broker is not None else None
        return LeaderHint(partition.leader, partition.leader_epoch, self.endpoint(partition.leader), rack)

    def offline_replicas(self, partition: PartitionImage) -> list[int]:
        """The replicas of a partition that the client can't reach.

        Their brokers are away, or not on its listener, or the folders that they are in have failed.
        """
        brokers = self.image.brokers
        return [
            replica
            for replica, directory in zip(partition.replicas, partition.directories, strict=True)
            if self.endpoint(replica) is None or not brokers[replica].has_online_directory(directory)
        ]

    def at_version(self, version: int) -> Context:
        """The same client, as if it had asked at another version: for a request made on its behalf."""
        context = Context(self.services, self.connection, self.client, version, self.correlation_id, self.client_id)
        context.account = None if self.account is None else self.account.on_behalf()
        return context

    def as_broker(self, version: int) -> Context:
        """This broker in the client's place, for what the client has not asked for; no quota is its own."""
        client = Client(listener=self.client.listener, host="", port=0, principal=ANONYMOUS)
        return Context(self.services, self.connection, client, version, self.correlation_id, None)

    def caller(self, *, quota_strict_since: int = 0) -> Caller:
        """The client as the controller's decisions see it.

        `quota_strict_since`: the version from which its quota of changes refuses; before, it makes the client pause.
        """
        authorizer, client, account = self.services.authorizer, self.client, self.account

        def mutate(partitions: int) -> None:
            strict = self.version >= quota_strict_since
            if account is not None and not account.mutate(partitions, strict=strict):
                raise Refused(Code.THROTTLING_QUOTA_EXCEEDED)

        return Caller(
            api_version=self.version,
            principal=str(client.principal),
            forwarded=client.forwarded or client.listener not in self.config.reachable.controller_names,
            allows=lambda operation, kind, name: authorizer.allows(
                client.principal, client.host, Operation(operation), Resource(kind), name
            ),
            mutate=mutate,
        )

    async def ask_controller(self, request: Message, response_class: type[R]) -> R:
        """What the active controller answers to `request`."""
        response = await self.services.controller.forward(self, request)
        assert isinstance(response, response_class)
        return response

    async def wait(self, event: trio.Event, limit_s: float) -> bool:
        """Wait for `event`; False after `limit_s` seconds, or when the peer leaves."""
        return await self.connection.wait(event, limit_s)

    async def finish(self, later: Later) -> None:
        """Wait until its response is there, or time is up, or the peer has left."""
        if later.awaited:
            event = trio.Event()
            later.wake = event.set
            await self.wait(event, later.limit_s)

    async def wait_answer(self, answer: Answer) -> None:
        """Wait for `answer` for as long as the peer stays. Raises: CloseConnection."""
        await self.connection.wait_answer(answer)

    def allows(
        self,
        operation: Operation,
        *,
        topic: str | None = None,
        group: str | None = None,
        transactional_id: str | None = None,
    ) -> bool:
        """Whether the client may do `operation` to the named resource (to the cluster, if none is named)."""
        resource, name = _resource(topic, group, transactional_id)
        return self.services.authorizer.allows(self.client.principal, self.client.host, operation, resource, name)

    def require(
        self,
        operation: Operation,
        *,
        topic: str | None = None,
        group: str | None = None,
        transactional_id: str | None = None,
    ) -> None:
        """As `allows`. Raises: Refused, with the resource's authorization error."""
        if not self.allows(operation, topic=topic, group=group, transactional_id=transactional_id):
            raise Refused(AUTHORIZATION_FAILED[_resource(topic, group, transactional_id)[0]])

    def authorized_operations(self, asked: bool, *, topic: str | None = None, group: str | None = None) -> int:
        """The value of an authorized-operations field: what the client may do to a resource, if it asked (KIP-430)."""
        if not asked:
            return NOT_ASKED
        resource, name = _resource(topic, group, None)
        return authorized_operations(self.services.authorizer, self.client.principal, self.client.host, resource, name)


def _resource(topic: str | None, group: str | None, transactional_id: str | None) -> tuple[Resource, str]:
    if topic is not None:
        return Resource.TOPIC, topic
    if group is not None:
        return Resource.GROUP, group
    if transactional_id is not None:
        return Resource.TRANSACTIONAL_ID, transactional_id
    return Resource.CLUSTER, CLUSTER_NAME
