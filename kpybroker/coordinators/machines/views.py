"""Groups as DescribeGroups and ListGroups show them."""

from __future__ import annotations

from kpybroker.coordinators.machines.classic_group import ClassicGroup
from kpybroker.coordinators.machines.foreign_group import GroupType
from kpybroker.coordinators.machines.member import Member
from kpybroker.coordinators.machines.rebalance import GroupState
from kpybroker.coordinators.machines.replies import described_error
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.describe_groups import DescribedGroup, DescribedGroupMember
from kpybroker.wire.messages.list_groups import ListedGroup

NOT_FOUND_SINCE = 6
"""The version of DescribeGroups that says when a group is not there; before, it is merely dead."""


def describe(group: ClassicGroup) -> DescribedGroup:
    """A classic group with its members; what they offer and get is shown while the group is stable."""
    protocol = group.protocol_name if group.state is GroupState.STABLE else None
    return DescribedGroup(
        error_code=Code.NONE,
        group_id=group.group_id,
        group_state=group.state,
        protocol_type=group.roster.protocol_type or "",
        protocol_data=protocol or "",
        members=[_describe_member(member, protocol) for member in group.roster.members.values()],
    )


def _describe_member(member: Member, protocol: str | None) -> DescribedGroupMember:
    return DescribedGroupMember(
        member_id=member.member_id,
        group_instance_id=member.group_instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        member_metadata=b"" if protocol is None else member.metadata(protocol),
        member_assignment=member.assignment,
    )


def describe_missing(group_id: str, version: int, *, known: bool) -> DescribedGroup:
    """A group that is not there, or, if it is `known`, of a type that another API describes."""
    if version < NOT_FOUND_SINCE:
        return described_error(group_id, Code.NONE, state=GroupState.DEAD)
    message = f"Group {group_id} is not a classic group." if known else f"Group {group_id} not found."
    return described_error(group_id, Code.GROUP_ID_NOT_FOUND, message, GroupState.DEAD)


class ListFilter:
    """Which groups a ListGroups asks for: by state and by type, upper and lower case being the same."""

    def __init__(self, states: tuple[str, ...], types: tuple[str, ...]) -> None:
        self._states = frozenset(state.lower().strip() for state in states)
        self._types = frozenset(name.lower() for name in types)

    def takes(self, state: str, group_type: GroupType) -> bool:
        """Whether a group in this state and of this type is asked for; no states or types named means all of them."""
        if self._states and state.lower() not in self._states:
            return False
        return not self._types or group_type in self._types


def list_classic(group: ClassicGroup) -> ListedGroup:
    """A classic group in a list."""
    return ListedGroup(
        group_id=group.group_id,
        protocol_type=group.roster.protocol_type or "",
        group_state=group.state,
        group_type=GroupType.CLASSIC,
    )


def list_other(group_id: str, group_type: GroupType, state: str) -> ListedGroup:
    """A group of another type in a list: its protocol type has its type's name."""
    return ListedGroup(group_id=group_id, protocol_type=group_type, group_state=state, group_type=group_type)
