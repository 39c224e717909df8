"""All consumer groups of one shard, with everything that can be asked of them."""

from __future__ import annotations

from kpybroker.clock import Now
from kpybroker.coordinators.machines.consumer.assignment import Partitions
from kpybroker.coordinators.machines.consumer.classic_members import ClassicMembers
from kpybroker.coordinators.machines.consumer.group import ConsumerGroup
from kpybroker.coordinators.machines.consumer.member import ConsumerMember
from kpybroker.coordinators.machines.consumer.state import MEMBER_KINDS, RESOLVE
from kpybroker.coordinators.machines.events import DescribeConsumerGroups, Effects, SettingsChanged, TopicsChanged
from kpybroker.coordinators.machines.replies import consumer_group_error
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.consumer_group_describe import (
    Assignment,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
    Member,
    TopicPartitions,
)
from kpybroker.wire.messages.offset_commit import OffsetCommitRequest
from kpybroker.wire.messages.offset_fetch import OffsetFetchRequestGroup
from kpybroker.wire.messages.txn_offset_commit import TxnOffsetCommitRequest

MEMBER_EPOCHS_SINCE = 9
"""The version of OffsetCommit that members of the consumer protocol must use."""
CLASSIC_MEMBER, CONSUMER_MEMBER = 0, 1
"""How ConsumerGroupDescribe tells what protocol a member speaks."""


class ConsumerGroups(ClassicMembers):
    """The consumer groups of a shard."""

    def due(self, kind: str, group_id: str, rest: tuple[str, ...], now: Now, out: Effects) -> None:
        """A deadline of a consumer group has come."""
        if kind == RESOLVE:
            self.resolve_due(group_id, now, out)
        else:
            assert kind in MEMBER_KINDS
            self.member_due(kind, group_id, rest[0], now, out)

    def topics_changed(self, event: TopicsChanged, now: Now, out: Effects) -> None:  # noqa: ARG002
        """The cluster's topics are others from now on."""
        self.follow(event.topics, event.changed, created=event.created)

    def settings_changed(self, event: SettingsChanged, now: Now, out: Effects) -> None:  # noqa: ARG002
        """What consumer groups go by is other from now on."""
        self.own = event.consumer

    # -- offsets

    def commit_fault(
        self, group: ConsumerGroup, request: OffsetCommitRequest | TxnOffsetCommitRequest, version: int | None
    ) -> Code | None:
        """Why the group takes no offsets from this sender. `version` is OffsetCommit's; None: in a transaction.

        A member may commit in an epoch that is over, as long as it has had the partition since then (KIP-1251). Who
        commits in a transaction may leave out for which member.
        """
        epoch = request.generation_id_or_member_epoch
        if epoch < 0 and group.is_empty:
            return None
        unnamed = epoch == -1 and not request.member_id and request.group_instance_id is None
        if version is None and unnamed:
            return None
        member = group.members.get(request.member_id)
        if member is None:
            return Code.UNKNOWN_MEMBER_ID
        if version is not None and version < MEMBER_EPOCHS_SINCE and member.classic is None:
            return Code.UNSUPPORTED_VERSION
        if epoch == member.epoch or (epoch < member.epoch and _has_had(member, request, epoch)):
            return None
        return Code.ILLEGAL_GENERATION if version is None else _stale(member)

    def fetch_fault(self, group: ConsumerGroup, request: OffsetFetchRequestGroup) -> Code | None:
        """Why the group tells this sender no offsets. Who gives neither member id nor epoch may always ask."""
        if request.member_id is None and request.member_epoch < 0:
            return None
        if request.member_id is None:
            return Code.UNKNOWN_SERVER_ERROR  # which is Kafka's answer to an epoch of nobody
        member = group.members.get(request.member_id)
        if member is None:
            return Code.UNKNOWN_MEMBER_ID
        return None if request.member_epoch == member.epoch else _stale(member)

    # -- what others see

    def describe_groups(self, event: DescribeConsumerGroups, now: Now, out: Effects) -> None:  # noqa: ARG002
        """A ConsumerGroupDescribe."""
        groups = [self.describe(group_id) for group_id in event.group_ids]
        out.replies.append((event.token, ConsumerGroupDescribeResponse(throttle_time_ms=0, groups=groups)))

    def describe(self, group_id: str) -> DescribedGroup:
        """A group as ConsumerGroupDescribe shows it."""
        group = self.groups.get(group_id)
        if group is None:
            return consumer_group_error(group_id, Code.GROUP_ID_NOT_FOUND, self.missing(group_id))
        return DescribedGroup(
            error_code=Code.NONE,
            group_id=group_id,
            group_state=group.state,
            group_epoch=group.epoch,
            assignment_epoch=group.assignment_epoch,
            assignor_name=group.assignor() or self.own.assignors[0],
            members=[self._describe_member(group, member) for member in group.members.values()],
        )

    def _describe_member(self, group: ConsumerGroup, member: ConsumerMember) -> Member:
        has = {topic_id: list(epochs) for topic_id, epochs in member.assigned.items()}
        for topic_id, epochs in member.revoking.items():
            has.setdefault(topic_id, []).extend(epochs)
        return Member(
            member_id=member.member_id,
            instance_id=member.instance_id,
            rack_id=member.rack_id,
            member_epoch=member.epoch,
            client_id=member.client_id,
            client_host=member.client_host,
            subscribed_topic_names=sorted(member.topics),
            subscribed_topic_regex=member.regex,
            assignment=self._described({topic_id: tuple(sorted(some)) for topic_id, some in has.items()}),
            target_assignment=self._described(group.target_of(member.member_id)),
            member_type=CONSUMER_MEMBER if member.classic is None else CLASSIC_MEMBER,
        )

    def _described(self, partitions: Partitions) -> Assignment:
        named = ((topic_id, self.topics.name_of(topic_id), indexes) for topic_id, indexes in partitions.items())
        return Assignment(
            topic_partitions=[
                TopicPartitions(topic_id=topic_id, topic_name=name, partitions=sorted(indexes))
                for topic_id, name, indexes in named
                if name is not None
            ]
        )


def _has_had(member: ConsumerMember, request: OffsetCommitRequest | TxnOffsetCommitRequest, epoch: int) -> bool:
    """Whether the member has had all that it commits to since that epoch, or longer."""
    for topic in request.topics:
        assigned = member.assigned.get(topic.topic_id, {})
        revoking = member.revoking.get(topic.topic_id, {})
        for partition in topic.partitions:
            since = assigned.get(partition.partition_index, revoking.get(partition.partition_index))
            if since is None or epoch < since:
                return False
    return True


def _stale(member: ConsumerMember) -> Code:
    return Code.STALE_MEMBER_EPOCH if member.classic is None else Code.ILLEGAL_GENERATION
