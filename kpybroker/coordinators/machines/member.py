"""One member of a classic group."""

from __future__ import annotations

from collections.abc import Container, Iterable

from kpybroker.coordinators.machines.effects import Token
from kpybroker.wire.internal.group_records import MemberMetadata
from kpybroker.wire.messages.join_group import JoinGroupRequest

Protocols = tuple[tuple[str, bytes], ...]
"""What a member can do, by preference: (name, metadata) pairs."""


class Member:
    """Who a member is, what it offered, what it was given, and what it waits for."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "group_instance_id",
        "is_new",
        "join_token",
        "member_id",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "sync_token",
    )

    def __init__(
        self,
        member_id: str,
        group_instance_id: str | None,
        client_id: str,
        client_host: str,
        *,
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: Protocols,
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.group_instance_id = group_instance_id
        self.client_id = client_id
        self.client_host = client_host
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        self.assignment = assignment
        self.is_new = False
        """It has not had an answer to a JoinGroup yet, so its wait for one does not keep it alive."""
        self.join_token: Token | None = None
        """The JoinGroup it waits for an answer to. Changed by the roster only, which counts those waiting."""
        self.sync_token: Token | None = None
        """The SyncGroup it waits for an answer to."""

    @classmethod
    def from_request(cls, request: JoinGroupRequest, member_id: str, client_id: str, client_host: str) -> Member:
        """A member as its JoinGroup describes it."""
        return cls(
            member_id,
            request.group_instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms=request.rebalance_timeout_ms,
            session_timeout_ms=request.session_timeout_ms,
            protocols=offered_protocols(request),
        )

    @classmethod
    def from_record(cls, protocol: str | None, value: MemberMetadata) -> Member:
        """A member as the log has it: of its protocols only the one the group chose is known.

        Records of version 0 have no rebalance timeout; the session timeout stood for both then.
        """
        rebalance_ms = value.session_timeout if value.rebalance_timeout == -1 else value.rebalance_timeout
        return cls(
            value.member_id,
            value.group_instance_id,
            value.client_id,
            value.client_host,
            rebalance_timeout_ms=rebalance_ms,
            session_timeout_ms=value.session_timeout,
            protocols=() if protocol is None else ((protocol, value.subscription),),
            assignment=value.assignment,
        )

    def replaced_by(self, member_id: str, request: JoinGroupRequest) -> Member:
        """A static member come back under a new id: it keeps its place and its assignment (KIP-345).

        Client id and host stay those of the first join, as in Kafka.
        """
        return Member(
            member_id,
            self.group_instance_id,
            self.client_id,
            self.client_host,
            rebalance_timeout_ms=request.rebalance_timeout_ms,
            session_timeout_ms=request.session_timeout_ms,
            protocols=offered_protocols(request),
            assignment=self.assignment,
        )

    def described(self, subscription: bytes, assignment: bytes) -> MemberMetadata:
        """The member as the log keeps it."""
        return MemberMetadata(
            member_id=self.member_id,
            group_instance_id=self.group_instance_id,
            client_id=self.client_id,
            client_host=self.client_host,
            rebalance_timeout=self.rebalance_timeout_ms,
            session_timeout=self.session_timeout_ms,
            subscription=subscription,
            assignment=assignment,
        )

    def is_as_recorded(self, protocol: str | None, value: MemberMetadata) -> bool:
        """Whether a record of a group that chose `protocol` tells nothing new of it, but for its assignment."""
        known = protocol is None or (protocol, value.subscription) in self.protocols
        return known and self.described(value.subscription, value.assignment) == value

    @property
    def keeps_itself_alive(self) -> bool:
        """Whether its waiting for an answer counts as a sign of life when its session ends."""
        return not self.is_new and (self.join_token is not None or self.sync_token is not None)

    def metadata(self, protocol: str) -> bytes:
        """Its metadata for a protocol it supports. Raises: KeyError if it does not."""
        for name, metadata in self.protocols:
            if name == protocol:
                return metadata
        raise KeyError(protocol)

    def vote(self, candidates: Container[str]) -> str:
        """The protocol it prefers among the candidates. Raises: KeyError if it supports none of them."""
        for name, _ in self.protocols:
            if name in candidates:
                return name
        raise KeyError(self.member_id)


def offered_protocols(request: JoinGroupRequest) -> Protocols:
    """The protocols of a JoinGroup. The request's list is a map by name: of two with the same name the first counts."""
    offered: dict[str, bytes] = {}
    for protocol in request.protocols:
        offered.setdefault(protocol.name, protocol.metadata)
    return tuple(offered.items())


def choose_protocol(members: Iterable[Member]) -> str:
    """The protocol most members vote for among those all of them support; the first voted for wins a tie.

    There must be a member and a protocol common to all: who joins without one is refused.
    """
    everyone = list(members)
    common = set.intersection(*({name for name, _ in member.protocols} for member in everyone))
    votes: dict[str, int] = {}
    for member in everyone:
        vote = member.vote(common)
        votes[vote] = votes.get(vote, 0) + 1
    return max(votes, key=votes.__getitem__)
