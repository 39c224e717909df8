"""Who is in a classic group, who is about to be, and who leads.

The roster keeps the counts that decide when a rebalance may go on (who waits for a join, who owes a sync) true by being
the only one that changes what they count. Members are in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Iterable

from kpybroker.coordinators.machines.effects import Token
from kpybroker.coordinators.machines.member import Member
from kpybroker.wire.codes import Code


class Roster:
    """The members of one classic group."""

    def __init__(self, protocol_type: str | None = None, leader: str | None = None) -> None:
        self.protocol_type = protocol_type
        """What the group is for ("consumer", "connect"); set by the first member, kept when the last one leaves."""
        self.leader = leader
        """The id of the member that assigns; a member of the roster whenever there is one."""
        self.members: dict[str, Member] = {}
        self.pending_joins: set[str] = set()
        """Ids handed out with MEMBER_ID_REQUIRED that have not come back yet (KIP-394)."""
        self.pending_syncs: set[str] = set()
        """Members of this generation that have not sent their SyncGroup."""
        self._static: dict[str, str] = {}
        self._supporters: dict[str, int] = {}
        self._joining = 0

    # -- questions

    @property
    def joining(self) -> int:
        """How many members wait for the answer to a JoinGroup."""
        return self._joining

    @property
    def all_joined(self) -> bool:
        """Whether everyone expected has sent a JoinGroup for the next generation. True of an empty roster."""
        return self._joining == len(self.members) and not self.pending_joins

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest any member wants to be waited for; 0 without members."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    @property
    def static_ids(self) -> dict[str, str]:
        """Member ids by instance id."""
        return self._static

    def supports(self, protocol_type: str, names: Iterable[str]) -> bool:
        """Whether someone with these protocols has one in common with every member, and the same protocol type."""
        if protocol_type != self.protocol_type:
            return False
        everyone = len(self.members)
        return any(self._supporters.get(name, 0) == everyone for name in names)

    def fault(self, member_id: str, group_instance_id: str | None) -> Code | None:
        """What is wrong with a request in this member's name: UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID or nothing.

        A static member is fenced once another process took its instance id over (KIP-345).
        """
        if group_instance_id is not None:
            holder = self._static.get(group_instance_id)
            if holder is None:
                return Code.UNKNOWN_MEMBER_ID
            if holder != member_id:
                return Code.FENCED_INSTANCE_ID
        return None if member_id in self.members else Code.UNKNOWN_MEMBER_ID

    # -- changes

    def add(self, member: Member, join_token: Token | None = None) -> None:
        """Take a member in. The first one gives the group its protocol type elsewhere, and leads."""
        assert member.member_id not in self.members
        if member.group_instance_id is not None:
            assert member.group_instance_id not in self._static
            self._static[member.group_instance_id] = member.member_id
        self.members[member.member_id] = member
        self._count(member, 1)
        if self.leader is None:
            self.leader = member.member_id
        self.pending_joins.discard(member.member_id)
        self.wait_for_join(member, join_token)

    def remove(self, member_id: str) -> Member | None:
        """Strike a member, or an id that was only handed out. The next in line leads if the leader went.

        The member's waiting requests stay with it for the caller to answer.
        """
        self.pending_joins.discard(member_id)
        self.pending_syncs.discard(member_id)
        member = self.members.pop(member_id, None)
        if member is not None:
            self._count(member, -1)
            self._joining -= member.join_token is not None
            if member.group_instance_id is not None:
                del self._static[member.group_instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)
        return member

    def replace(self, old_id: str, new: Member) -> Member:
        """Put a static member's new self into its place, the leader's included. Returns the old self."""
        old = self.members[old_id]
        assert new.group_instance_id is not None
        assert new.group_instance_id == old.group_instance_id
        led = self.leader == old_id
        self.members = {
            new.member_id if key == old_id else key: new if key == old_id else member
            for key, member in self.members.items()
        }
        self._count(old, -1)
        self._count(new, 1)
        self._joining += (new.join_token is not None) - (old.join_token is not None)
        self.pending_syncs.discard(old_id)
        self._static[new.group_instance_id] = new.member_id
        if led:
            self.leader = new.member_id
        return old

    def update(self, member: Member, offer: Member) -> None:
        """Take over what a member's new JoinGroup offers: protocols and timeouts."""
        self._count(member, -1)
        member.protocols = offer.protocols
        self._count(member, 1)
        member.rebalance_timeout_ms = offer.rebalance_timeout_ms
        member.session_timeout_ms = offer.session_timeout_ms

    def wait_for_join(self, member: Member, token: Token | None) -> Token | None:
        """Make the member wait with this token, or with None no longer. Returns the token it waited with so far."""
        before = member.join_token
        self._joining += (token is not None) - (before is not None)
        member.join_token = token
        return before

    def elect_joined_leader(self) -> bool:
        """Let a member lead that takes part in this rebalance. False if there is none (or no leader at all)."""
        if self.leader is None:
            return False
        if self.members[self.leader].join_token is None:
            joined = next((key for key, member in self.members.items() if member.join_token is not None), None)
            if joined is None:
                return False
            self.leader = joined
        return True

    def _count(self, member: Member, by: int) -> None:
        for name, _ in member.protocols:
            self._supporters[name] = self._supporters.get(name, 0) + by
