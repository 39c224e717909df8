"""A client that talks to coordinators, wherever they are now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kpybroker.peers.channel import PeerGone
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from kpybroker.wire.schema import Message

from .clients import AGAIN, Client, R

if TYPE_CHECKING:
    from .world import World

GROUP, TRANSACTION = 0, 1


class Coordinated(Client):
    """Has the coordinators of one group and one transactional id."""

    def __init__(self, world: World, name: str, key: str) -> None:
        super().__init__(world, name)
        self.key = key
        """Group id, and transactional id."""
        self._coordinators: dict[int, int] = {}

    async def coordinated(
        self, kind: int, request: Message, response_class: type[R], version: int, error: Callable[[R], int]
    ) -> tuple[Code, R]:
        """What the coordinator answers, asked until it says yes or no."""
        while True:
            answer = await self.attempt(kind, request, response_class, version, error)
            if answer is not None:
                return answer
            await self.rest()

    async def attempt(
        self, kind: int, request: Message, response_class: type[R], version: int, error: Callable[[R], int]
    ) -> tuple[Code, R] | None:
        """The same, asked once. None: nobody knows whether it was done."""
        while kind not in self._coordinators:
            await self._find(kind)
        node_id = self._coordinators[kind]
        try:
            response = await self.ask(node_id, request, response_class, version)
        except PeerGone:
            self._coordinators.pop(kind)
            return None
        code = Code(error(response))
        if code is not Code.NONE:
            self.world.trace(self.name, f"{type(request).__name__} is answered by {node_id}: {code.name}")
        if code in AGAIN:
            self._coordinators.pop(kind)
            return None
        return code, response

    async def _find(self, kind: int) -> None:
        request = FindCoordinatorRequest(key_type=kind, coordinator_keys=[self.key])
        response = await self.ask_any(request, FindCoordinatorResponse, 4)
        found = response.coordinators[0]
        if found.error_code == Code.NONE:
            self._coordinators[kind] = found.node_id
        else:
            await self.rest()
