"""Whether this node may be no leader any more, without having heard of it.

A controller that does not hear from a broker for broker.session.timeout.ms gives what it leads to others. One that
nobody but clients can reach hears nothing of that. It has heard no answer to its heartbeats for as long, though, and
nothing of the replicas that had to have what it is sent with acks=all: it closes the connections of clients that send
that, who look for another node then and ask it who leads. Told REQUEST_TIMED_OUT they would come again, and told
NOT_LEADER_OR_FOLLOWER ask here who leads: librdkafka has no other connection if this node is all it needs (measured:
either way until the network was whole again, after 16 s; so it is 3.5 s with a session of 2.5 s).

Its coordinators refuse whoever asks (`Shard.require_active`), before the other leader's can have begun: a transaction
that was committed there has moved offsets that are not known here, and who read them here did its work twice.

It is a guess, so nothing is given up for it: what needs nobody else (acks=1, reading) goes on, and so does all of it
where the controllers alone are out of reach.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.replication.replicas import Replicas

log = logging.getLogger("kpybroker.replication")

LOOKS: Final = 10
"""How often in a session it is looked."""
SURE: Final = 0.9
"""For how much of a session the last answer is good: doubts come before the controller's."""


class Isolation:
    """Tells the partitions; `run` is a task of the node's."""

    def __init__(
        self,
        replicas: Replicas,
        clock: Clock,
        *,
        heard_s: Callable[[], float],
        heartbeat_s: Callable[[], float],
        session_s: Callable[[], float],
    ) -> None:
        """`heard_s`: when the newest heartbeat was sent that the controller has answered, monotonic seconds."""
        self._replicas = replicas
        self._clock = clock
        self._heard_s = heard_s
        self._heartbeat_s = heartbeat_s
        self._session_s = session_s
        self._sure = True

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            session_s = self._session_s()
            await trio.sleep(session_s / LOOKS)
            self._look(session_s)

    def _look(self, session_s: float) -> None:
        around, heard_s, now_s = self._replicas.around, self._heard_s(), self._clock.monotonic_s()
        around.sure_until_s = heard_s + session_s * SURE
        around.silent_since_s = heard_s + self._heartbeat_s()  # when followers and controller were to be heard again
        was_sure, self._sure = self._sure, now_s <= around.sure_until_s
        if self._sure:
            return
        if was_sure:
            log.warning("no controller has been heard for %.1f s: others may lead what is led here", now_s - heard_s)
        for partition in self._replicas.held():
            partition.doubt()
