"""What the active controller does without being asked: fencing, elections, a sign of life in the metadata log.

Each duty has a time at which it is due; one task sleeps until the earliest. While the controller is not the active one
nothing is due. What is due and what comes of it is decided by machines; here is the clock, and the connection that is
tried where a broker is suspected to be dead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import trio

from kpybroker.clock import Clock
from kpybroker.cluster.image import BrokerImage
from kpybroker.cluster.machines.brokers import fence
from kpybroker.cluster.machines.decision import Settings, State
from kpybroker.cluster.machines.sessions import Sessions, Suspect
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.wire.codes import Refused
from kpybroker.wire.internal.metadata_records import NoOpRecord

if TYPE_CHECKING:
    from kpybroker.peers.channel import Connector

log = logging.getLogger(__name__)

NEVER = float("inf")
AGAIN_S = 1.0
"""After a duty whose records could not be written, for want of room on the disk."""
STALLED_S = 1.0
"""How late this task must come for its process to have been stopped, or starved: heartbeats wait to be read then."""
PROBES_AFTER_S = (0.0, 0.1, 0.4, 1.0)
"""When a suspect is looked at: a process that dies closes its connections before, or after, it stops listening."""
PROBE_S = 1.0
"""How long one look may take."""


class Ending(Protocol):
    """A connection, of which one may hear when it ends."""

    def at_end(self, call: Callable[[], None]) -> None:
        """Have `call` called when the connection ends."""
        ...


class Duties:
    """The duties of one controller: `begin` and `end` with its leadership, `run` all the time."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        state: Callable[[], State],
        append: Callable[[Sequence[MetadataRecord]], object],
        connector: Connector | None,
    ) -> None:
        """`state` and `append` are the controller's, and raise Refused."""
        self.sessions = Sessions(node_id=settings.node_id, timeout_s=settings.session_timeout_s)
        self.observed: Callable[[], bool] = lambda: False
        """Whether other nodes follow the metadata log: they count on something new every now and then."""
        self._settings = settings
        self._clock = clock
        self._state = state
        self._append = append
        self._connector = connector
        self._active = False
        self._suspects: list[Suspect] = []
        self._connections: dict[int, Ending] = {}
        """By which the brokers' last heartbeats came."""
        self._woken = trio.Event()
        self._preferred_s = self._unclean_s = self._idle_since_s = 0.0

    def begin(self, predecessor: tuple[int, float] | None = None) -> None:
        """The controller is active from now on. `predecessor`: whose node was heard last at that time."""
        now_s = self._clock.monotonic_s()
        settings = self._settings
        self._active = True
        self._suspects = self.sessions.begin(self._state().image, now_s, predecessor=predecessor)
        self._preferred_s = NEVER if settings.rebalance_s is None else now_s + settings.rebalance_s
        self._unclean_s = now_s + settings.unclean_election_s
        self._idle_since_s = now_s
        self.wake()

    def end(self) -> None:
        """It is not any more."""
        self._active = False
        self._suspects = []
        self._connections.clear()
        self.sessions.end()

    def wake(self) -> None:
        """Something is due at another time than it was."""
        self._woken.set()

    def appended(self) -> None:
        """The metadata log has grown."""
        self._idle_since_s = self._clock.monotonic_s()

    def heard_by(self, broker: BrokerImage, connection: Ending) -> None:
        """A broker's heartbeat came by a connection, whose end will make it a suspect."""
        if self._connections.get(broker.id) is connection:
            return
        self._connections[broker.id] = connection

        def ended() -> None:
            if self._connections.get(broker.id) is not connection:
                return  # the broker has another one by now
            del self._connections[broker.id]
            suspect = self.sessions.suspect(broker.id)
            if suspect is not None:
                self._suspects.append(suspect)
                self.wake()

        connection.at_end(ended)

    async def run(self) -> None:
        """Do what is due, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                due_s = self._deadline_s
                with trio.move_on_at(due_s):
                    await self._woken.wait()
                self._woken = trio.Event()
                now_s = self._clock.monotonic_s()
                if now_s - due_s > STALLED_S:
                    log.warning("this controller stood still for %.1f s: no broker is fenced for that", now_s - due_s)
                    self.sessions.excuse(now_s)
                suspects, self._suspects = self._suspects, []
                for suspect in suspects:
                    nursery.start_soon(self._look_after, suspect)
                if self._active:
                    self._do_what_is_due(now_s)

    @property
    def _deadline_s(self) -> float:
        if not self._active:
            return NEVER
        return min(self.sessions.deadline_s, self._preferred_s, self._unclean_s, self._no_op_s)

    @property
    def _no_op_s(self) -> float:
        idle_s = self._settings.idle_s
        return NEVER if idle_s is None or not self.observed() else self._idle_since_s + idle_s

    def _do_what_is_due(self, now_s: float) -> None:
        while self._active and (broker_id := self.sessions.expired(now_s)) is not None:
            try:
                self._fence(broker_id, "its session has timed out")
            except Refused:
                self.sessions.postpone(broker_id, now_s, AGAIN_S)
        if self._preferred_s <= now_s:
            self._preferred_s = self._hold_elections("preferred", now_s, self._settings.rebalance_s or NEVER)
        if self._unclean_s <= now_s:
            self._unclean_s = self._hold_elections("unclean", now_s, self._settings.unclean_election_s)
        if self._no_op_s <= now_s:
            self._idle_since_s = now_s
            self._write([NoOpRecord()])

    def _hold_elections(self, kind: str, now_s: float, period_s: float) -> float:
        """Elect; when to do it again."""
        from kpybroker.cluster.machines.periodic_elections import ELECTIONS_MAX, elect_preferred, elect_unclean

        if not self._active:
            return NEVER
        records = (elect_preferred if kind == "preferred" else elect_unclean)(self._state())
        if records:
            log.info("electing leaders of %d partitions (%s)", len(records), kind)
        self._write(records)
        return now_s if len(records) >= ELECTIONS_MAX else now_s + period_s

    def _write(self, records: Sequence[MetadataRecord]) -> None:
        """What can't be written now is decided again when it is due again."""
        try:
            if self._active:
                self._append(records)
        except Refused as refused:
            log.warning("a duty of the controller was not done: %s", refused)

    def _fence(self, broker_id: int, why: str) -> None:
        """Raises: Refused."""
        state = self._state()
        broker = state.image.brokers.get(broker_id)
        if broker is not None and not broker.fenced:
            log.info("fencing broker %d at epoch %d because %s", broker_id, broker.epoch, why)
            self._append(fence(state, broker_id))
        self.sessions.over(broker_id)

    async def _look_after(self, suspect: Suspect) -> None:
        """Fence a suspect if nobody listens where it should."""
        for after_s in PROBES_AFTER_S:
            await trio.sleep(after_s)
            broker = self._registered(suspect)
            if broker is None:
                return
            if await self._nobody_listens(broker) and self._registered(suspect) is not None:
                try:
                    self._fence(suspect.broker_id, "nobody listens where it did")
                except Refused:  # the session will run out
                    log.warning("broker %d is dead, and could not be fenced yet", suspect.broker_id)
                self.wake()
                return

    def _registered(self, suspect: Suspect) -> BrokerImage | None:
        """The suspect, None if it is none any more."""
        if not self._active or not self.sessions.still_suspect(suspect):
            return None
        return self._state().image.brokers.get(suspect.broker_id)

    async def _nobody_listens(self, broker: BrokerImage) -> bool:
        """Whether connecting is refused at every address of a broker."""
        from kpybroker.peers.channel import connect, was_refused

        for host, port in _addresses(broker):
            failure: OSError | None = None
            with trio.move_on_after(PROBE_S):
                try:
                    stream = await (self._connector or connect)(host, port)
                    await trio.aclose_forcefully(stream)
                except OSError as error:
                    failure = error
            if failure is None or not was_refused(failure):
                return False
        return True


def _addresses(broker: BrokerImage) -> Iterable[tuple[str, int]]:
    return dict.fromkeys((endpoint.host, endpoint.port) for endpoint in broker.endpoints)
