"""This node's controller, registered with the active one (KIP-919).

A controller that becomes active registers itself; one that follows asks the active one. Whoever changes features wants
to know of every voter what it supports, and admin clients are told where the controllers listen.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from kpybroker.cluster.features import CONTROLLER_REGISTRATION_SINCE, SUPPORTED
from kpybroker.wire.codes import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpybroker.cluster.controller_link import ControllerLink
    from kpybroker.cluster.delta import Delta
    from kpybroker.cluster.image import ClusterImage, Endpoint
    from kpybroker.cluster.raft_node import RaftNode
    from kpybroker.wire.messages.controller_registration import ControllerRegistrationRequest

log = logging.getLogger(__name__)

AGAIN_S = 1.0
"""After the active controller has refused."""


class ControllerRegistration:
    """Registers this node's controller whenever the metadata does not have it as it is; `run` is a task."""

    def __init__(
        self,
        raft: RaftNode,
        link: ControllerLink,
        *,
        node_id: int,
        incarnation_id: bytes,
        endpoints: Sequence[Endpoint],
    ) -> None:
        self._raft = raft
        self._link = link
        self._node_id = node_id
        self._incarnation_id = incarnation_id
        self._endpoints = endpoints
        self._changed = trio.Event()
        raft.on_change(self._follow)

    @property
    def due(self) -> bool:
        """Whether it is to be registered: the metadata can hold it, and does not."""
        image = self._raft.image
        if self._raft.is_leader or (image.features.metadata_version or 0) < CONTROLLER_REGISTRATION_SINCE:
            return False
        known = image.controllers.get(self._node_id)
        return known is None or known.incarnation_id != self._incarnation_id

    async def run(self) -> None:
        """Register, and again if need be, until cancelled."""
        while True:
            while not self.due:
                await self._changed.wait()
            from kpybroker.wire.messages.controller_registration import ControllerRegistrationResponse

            try:
                await self._link.ask(self._request(), ControllerRegistrationResponse)
            except Refused as refused:
                log.warning("this node's controller is not registered: %s", refused)
                await trio.sleep(AGAIN_S)
                continue
            log.info("controller %d is registered", self._node_id)
            while self.due:  # it is written down, and will be seen here
                await self._changed.wait()

    def _request(self) -> ControllerRegistrationRequest:
        from kpybroker.wire.messages.controller_registration import ControllerRegistrationRequest, Feature, Listener

        return ControllerRegistrationRequest(
            controller_id=self._node_id,
            incarnation_id=self._incarnation_id,
            zk_migration_ready=False,
            listeners=[
                Listener(name=point.name, host=point.host, port=point.port, security_protocol=point.security_protocol)
                for point in self._endpoints
            ],
            features=[
                Feature(name=name, min_supported_version=low, max_supported_version=high)
                for name, (low, high) in SUPPORTED.items()
            ],
        )

    def _follow(self, delta: Delta, image: ClusterImage) -> None:  # noqa: ARG002 - a listener's signature
        self._changed.set()
        self._changed = trio.Event()
