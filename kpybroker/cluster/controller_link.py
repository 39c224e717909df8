"""The active controller as this node's broker sees it: in this process, or at the other end of a connection.

Whoever asks can't tell where it is. A request that finds no active controller, or one that has ceased to be it, or
whose answer never came, is sent again once there is one: everything that is asked here may be asked twice.

One link carries one request at a time. Heartbeats have one of their own: nothing holds them up, and the controller
takes the end of their connection for a sign that this broker may be dead.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio

from kpybroker.wire.api_keys import APIS, ApiKey
from kpybroker.wire.codes import Code, Refused, code_of

if TYPE_CHECKING:
    from kpybroker.cluster.controller import Controller
    from kpybroker.peers.channel import Channel, Connector
    from kpybroker.wire.schema import Message

log = logging.getLogger(__name__)

R = TypeVar("R", bound="Message")

AGAIN_S = 0.05
"""Until the next attempt: what Apache Kafka's nodes wait too."""


class Quorum(Protocol):
    """Who leads the metadata quorum, as far as this node knows."""

    news: trio.Event
    """Set, and replaced, when another leads or another epoch has begun; and with other things that happen."""

    @property
    def leader_id(self) -> int | None:
        """The leader's id; None: nobody that we know of."""
        ...

    @property
    def leader_epoch(self) -> int:
        """The epoch that it leads."""
        ...

    @property
    def leader_address(self) -> tuple[str, int] | None:
        """Where its controller listens; None: nobody leads, or nobody knows where."""
        ...

    @property
    def is_leader(self) -> bool:
        """Whether it is this node."""
        ...


class ControllerLink:
    """Asks the active controller, wherever it is."""

    def __init__(
        self,
        quorum: Quorum,
        controller: Controller | None,
        *,
        client_id: str,
        request_timeout_s: float,
        connector: Connector | None = None,
    ) -> None:
        """`controller`: this process's; None: it has none. `request_timeout_s`: for one attempt."""
        self._quorum = quorum
        self._controller = controller
        self._client_id = client_id
        self._request_timeout_s = request_timeout_s
        self._connector = connector
        self._channel: Channel | None = None

    @property
    def local(self) -> Controller | None:
        """The active controller, if it is in this process."""
        return self._controller if self._quorum.is_leader else None

    async def ask(
        self, request: Message, response_class: type[R], *, version: int | None = None, timeout_s: float | None = None
    ) -> R:
        """What the active controller answers; asked again until it does.

        `version`: the one that must be spoken; None: the greatest that both know. `timeout_s` None: for ever.
        Raises: Refused with the error of the response, UNSUPPORTED_VERSION, REQUEST_TIMED_OUT after `timeout_s`.
        """
        with trio.move_on_after(float("inf") if timeout_s is None else timeout_s):
            while True:
                try:
                    return await self._attempt(request, response_class, version)
                except Refused as refused:
                    failed = self.local is not None and self.local.failure is not None
                    if refused.code != Code.NOT_CONTROLLER or failed:
                        raise
                    log.debug("%s is asked again: %s", type(request).__name__, refused.message)
                await self.worth_another_try()
        raise Refused(Code.REQUEST_TIMED_OUT)

    async def worth_another_try(self) -> None:
        """Return when there is a leader to ask, but not at once: one that has refused may soon be ready, or gone."""
        await trio.sleep(AGAIN_S)
        while self._quorum.leader_id is None:
            await self._quorum.news.wait()

    @property
    def versions(self) -> Mapping[int, tuple[int, int]]:
        """What the controller at the other end serves, by API; empty while there is no connection."""
        return {} if self._channel is None else self._channel.versions

    def close(self) -> None:
        """Close the connection, if there is one; the next request makes another."""
        if self._channel is not None:
            self._channel.close()

    async def _attempt(self, request: Message, response_class: type[R], version: int | None) -> R:
        """Raises: Refused, NOT_CONTROLLER among it when there was no answer."""
        if self.local is not None:
            done = await _carry_out(self.local, request, version)
            assert isinstance(done, response_class)
            return done
        response = await self.ask_remote(request, response_class, version=version)
        error_code: int = getattr(response, "error_code", Code.NONE)
        if error_code:
            raise Refused(code_of(error_code), getattr(response, "error_message", None))
        return response

    async def ask_remote(self, request: Message, response_class: type[R], *, version: int | None) -> R:
        """What the active controller of another process answers, asked once.

        Raises: Refused: NOT_CONTROLLER if there is no answer, UNSUPPORTED_VERSION.
        """
        from kpybroker.peers.channel import Channel, PeerGone, PeerTooOld, connect

        if self._channel is None:
            self._channel = Channel(
                lambda: self._quorum.leader_address, client_id=self._client_id, connector=self._connector or connect
            )
        answer: R | None = None
        refused = Refused(Code.NOT_CONTROLLER, "another node leads now")
        led = self._leadership()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_led_by_another, led, nursery.cancel_scope)
            try:
                answer = await self._channel.ask(
                    request, response_class, version=version, timeout_s=self._request_timeout_s
                )
            except PeerTooOld as too_old:
                refused = Refused(Code.UNSUPPORTED_VERSION, str(too_old))
            except PeerGone as gone:
                refused = Refused(Code.NOT_CONTROLLER, str(gone))
            nursery.cancel_scope.cancel()
        if answer is None:
            raise refused
        return answer

    def _leadership(self) -> tuple[int | None, int]:
        return self._quorum.leader_id, self._quorum.leader_epoch

    async def _cancel_when_led_by_another(self, led: tuple[int | None, int], scope: trio.CancelScope) -> None:
        while self._leadership() == led:
            await self._quorum.news.wait()
        scope.cancel()


class ControllerLinks:
    """Makes the links of a node, and closes them."""

    def __init__(
        self,
        quorum: Quorum,
        controller: Controller | None,
        *,
        client_id: str,
        request_timeout_s: float,
        connector: Connector | None = None,
    ) -> None:
        """As for ControllerLink."""
        self._make = partial(
            ControllerLink,
            quorum,
            controller,
            client_id=client_id,
            request_timeout_s=request_timeout_s,
            connector=connector,
        )
        self._quorum = quorum
        self._made: list[ControllerLink] = []

    def __call__(self) -> ControllerLink:
        """A new one."""
        self._made.append(self._make())
        return self._made[-1]

    @property
    def versions(self) -> Mapping[int, tuple[int, int]] | None:
        """What the active controller serves, by API; None: it is in this process, or there is no connection to it."""
        if self._quorum.is_leader:
            return None
        return next((link.versions for link in self._made if link.versions), None)

    def close(self) -> None:
        """Close their connections: the node stops."""
        for link in self._made:
            link.close()


async def _carry_out(controller: Controller, request: Any, version: int | None) -> Message:
    """Have the controller of this process do it."""
    if version is None:
        served = APIS[request.API_KEY].served_controller
        assert served is not None
        version = served[1]
    methods: dict[int, Callable[[], Awaitable[Message]]] = {
        ApiKey.BROKER_REGISTRATION: lambda: controller.register_broker(request, api_version=version),
        ApiKey.BROKER_HEARTBEAT: lambda: controller.broker_heartbeat(request),
        ApiKey.ALTER_PARTITION: lambda: controller.alter_partition(request, api_version=version),
        ApiKey.CONTROLLER_REGISTRATION: lambda: controller.register_controller(request),
        ApiKey.ALLOCATE_PRODUCER_IDS: lambda: controller.allocate_producer_ids(request),
        ApiKey.ASSIGN_REPLICAS_TO_DIRS: lambda: controller.assign_replicas_to_dirs(request),
    }
    return await methods[request.API_KEY]()
