"""Who of the registered brokers is alive, as the active controller believes.

A broker lives as long as it sends heartbeats: one that has sent none for broker.session.timeout.ms is to be fenced. A
new controller knows of no heartbeat, so every broker in service gets a session that begins when the controller does;
but for the one in the process of its predecessor, whose silence may be why there is a new controller: of its session
up to one half is over, by when it was heard in the quorum. The broker in the controller's own process has none that
could run out: it dies with the controller.

Nobody waits that long for a broker whose process is gone. A broken connection of its heartbeats is a suspicion, and so
is, for a new controller, every broker that it has never heard. The edge then tries to connect to the suspect: where
nobody listens, nobody lives, and its session ends at once. All else (it listens, it does not answer, a heartbeat came
in the meantime) leaves it to the timeout: slow is not dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kpybroker.cluster.image import BrokerImage, ClusterImage
from kpybroker.cluster.machines.brokers import BrokerSession


class Suspect(NamedTuple):
    """A broker that may be dead, and what had been heard of it when the suspicion arose."""

    broker_id: int
    epoch: int
    heartbeats: int


class Sessions:
    """The sessions of all registered brokers, while this node's controller is the active one."""

    def __init__(self, *, node_id: int, timeout_s: float) -> None:
        self._node_id = node_id
        self._timeout_s = timeout_s
        self._sessions: dict[int, BrokerSession] = {}

    @property
    def of_brokers(self) -> Mapping[int, BrokerSession]:
        """The sessions by broker id."""
        return self._sessions

    def begin(
        self, image: ClusterImage, now_s: float, *, predecessor: tuple[int, float] | None = None
    ) -> list[Suspect]:
        """A controller becomes active; whom it should look after. `predecessor`: its node, and when it was heard."""
        former_id, heard_s = (None, now_s) if predecessor is None else predecessor
        heard_s = max(heard_s, now_s - self._timeout_s / 2)
        self._sessions = {
            broker.id: BrokerSession(
                registered_at=image.offset,
                epoch=broker.epoch,
                heard_s=None if broker.fenced else heard_s if broker.id == former_id else now_s,
            )
            for broker in image.brokers.values()
        }
        return [
            Suspect(broker.id, broker.epoch, 0)
            for broker in image.brokers.values()
            if not broker.fenced and broker.id != self._node_id
        ]

    def end(self) -> None:
        """The controller is not the active one any more."""
        self._sessions = {}

    def registered(self, broker_id: int, epoch: int, offset: int) -> None:
        """A broker has registered; `offset` is that of the record."""
        session = self._sessions.get(broker_id)
        if session is not None and session.epoch == epoch:  # it amends what it said
            session.registered_at = offset
        else:
            self._sessions[broker_id] = BrokerSession(registered_at=offset, epoch=epoch)

    def heard(self, broker: BrokerImage, now_s: float, offset: int) -> BrokerSession:
        """A heartbeat of a registered broker has come, in which it says how far it has applied the metadata."""
        session = self._sessions[broker.id]
        session.heard_s = now_s
        session.heartbeats += 1
        session.metadata_offset = offset
        return session

    def over(self, broker_id: int) -> None:
        """A broker was fenced or has been told to stop: nobody waits for it to come back."""
        session = self._sessions.get(broker_id)
        if session is not None:
            session.heard_s = session.shutdown_offset = None

    def lives(self, broker_id: int, now_s: float) -> bool:
        """Whether a broker's session lasts, so that no other may register under its id."""
        session = self._sessions.get(broker_id)
        return session is not None and session.heard_s is not None and now_s < session.heard_s + self._timeout_s

    @property
    def deadline_s(self) -> float:
        """When the next session runs out, if no heartbeat comes."""
        heard = [
            session.heard_s
            for broker_id, session in self._sessions.items()
            if session.heard_s is not None and broker_id != self._node_id
        ]
        return min(heard, default=float("inf")) + self._timeout_s

    def expired(self, now_s: float) -> int | None:
        """A broker whose session has run out; one at a time, as each fencing is decided on what came of the others."""
        for broker_id, session in self._sessions.items():
            if session.heard_s is not None and broker_id != self._node_id and not self.lives(broker_id, now_s):
                return broker_id
        return None

    def excuse(self, now_s: float) -> None:
        """The controller itself was silent: whoever lives has half a session to be heard."""
        for session in self._sessions.values():
            if session.heard_s is not None:
                session.heard_s = max(session.heard_s, now_s - self._timeout_s / 2)

    def postpone(self, broker_id: int, now_s: float, again_s: float) -> None:
        """What follows from a session that ran out could not be written: look again in `again_s` seconds."""
        self._sessions[broker_id].heard_s = now_s - self._timeout_s + again_s

    def suspect(self, broker_id: int) -> Suspect | None:
        """The connection of a broker's heartbeats has ended: the suspicion, if there is reason for one."""
        session = self._sessions.get(broker_id)
        if session is None or session.heard_s is None or broker_id == self._node_id:
            return None
        return Suspect(broker_id, session.epoch, session.heartbeats)

    def still_suspect(self, suspect: Suspect) -> bool:
        """Whether nothing has happened since that clears it, or that ended its session anyway."""
        return self.suspect(suspect.broker_id) == suspect
