"""Responses that carry an error."""

from __future__ import annotations

from kpybroker.coordinators.machines.events import Response
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.consumer_group_describe import ConsumerGroupDescribeResponse
from kpybroker.wire.messages.consumer_group_describe import DescribedGroup as DescribedConsumerGroup
from kpybroker.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatResponse
from kpybroker.wire.messages.delete_groups import DeletableGroupResult, DeleteGroupsResponse
from kpybroker.wire.messages.describe_groups import DescribedGroup, DescribeGroupsResponse
from kpybroker.wire.messages.heartbeat import HeartbeatResponse
from kpybroker.wire.messages.join_group import JoinGroupResponse
from kpybroker.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberResponse
from kpybroker.wire.messages.list_groups import ListGroupsResponse
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from kpybroker.wire.messages.offset_delete import OffsetDeleteResponse
from kpybroker.wire.messages.offset_fetch import OffsetFetchResponseGroup
from kpybroker.wire.messages.sync_group import SyncGroupResponse
from kpybroker.wire.messages.txn_offset_commit import (
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)

NO_GENERATION = -1


def join_error(code: Code, member_id: str = "") -> JoinGroupResponse:
    """A JoinGroup refused. Some errors name the member they speak to, as Kafka's do."""
    return JoinGroupResponse(
        error_code=code,
        generation_id=NO_GENERATION,
        protocol_name=None,
        leader="",
        member_id=member_id,
        members=[],
    )


def sync_error(code: Code) -> SyncGroupResponse:
    """A SyncGroup refused."""
    return SyncGroupResponse(error_code=code, assignment=b"")


def leave_error(code: Code) -> LeaveGroupResponse:
    """A whole LeaveGroup refused."""
    return LeaveGroupResponse(error_code=code)


def leave_unknown(request: LeaveGroupRequest) -> LeaveGroupResponse:
    """A LeaveGroup of members of whom nothing is known."""
    members = [
        MemberResponse(
            member_id=member.member_id,
            group_instance_id=member.group_instance_id,
            error_code=Code.UNKNOWN_MEMBER_ID,
        )
        for member in request.members
    ]
    return LeaveGroupResponse(error_code=Code.NONE, members=members)


def consumer_heartbeat_error(code: Code, message: str | None = None) -> ConsumerGroupHeartbeatResponse:
    """A ConsumerGroupHeartbeat refused."""
    return ConsumerGroupHeartbeatResponse(
        throttle_time_ms=0, error_code=code, error_message=message, member_epoch=0, heartbeat_interval_ms=0
    )


def consumer_group_error(group_id: str, code: Code, message: str | None = None) -> DescribedConsumerGroup:
    """A consumer group that could not be described."""
    return DescribedConsumerGroup(
        error_code=code,
        error_message=message,
        group_id=group_id,
        group_state="",
        group_epoch=0,
        assignment_epoch=0,
        assignor_name="",
        members=[],
    )


def commit_error(code: Code, topics: list[OffsetCommitRequestTopic]) -> OffsetCommitResponse:
    """An OffsetCommit refused: the error stands at every partition, there is no other place for it."""
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
                    for partition in topic.partitions
                ],
            )
            for topic in topics
        ]
    )


def txn_commit_error(
    code: Code, topics: list[TxnOffsetCommitRequestTopic] | list[TxnOffsetCommitResponseTopic]
) -> TxnOffsetCommitResponse:
    """A TxnOffsetCommit refused, at every partition."""
    return TxnOffsetCommitResponse(
        throttle_time_ms=0,
        topics=[
            TxnOffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    TxnOffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
                    for partition in topic.partitions
                ],
            )
            for topic in topics
        ],
    )


def instead_of(response: Response, code: Code) -> Response:
    """The response of the same kind that says `code`: what had been decided could not be written."""
    match response:
        case JoinGroupResponse():
            return join_error(code)
        case SyncGroupResponse():
            return sync_error(code)
        case HeartbeatResponse():
            return HeartbeatResponse(error_code=code)
        case LeaveGroupResponse():
            return leave_error(code)
        case OffsetCommitResponse(topics=topics):
            return OffsetCommitResponse(topics=[_all_failed(topic, code) for topic in topics])
        case TxnOffsetCommitResponse(topics=txn_topics):
            return txn_commit_error(code, txn_topics)
        case OffsetFetchResponseGroup(group_id=group_id):
            # Consumers before 3.9 do not know COORDINATOR_NOT_AVAILABLE here; this makes them look it up again.
            told = Code.NOT_COORDINATOR if code is Code.COORDINATOR_NOT_AVAILABLE else code
            return OffsetFetchResponseGroup(group_id=group_id, topics=[], error_code=told)
        case OffsetDeleteResponse():
            return OffsetDeleteResponse(error_code=code, throttle_time_ms=0, topics=[])
        case DescribeGroupsResponse(groups=groups):
            return DescribeGroupsResponse(groups=[described_error(group.group_id, code) for group in groups])
        case ListGroupsResponse():
            return ListGroupsResponse(error_code=code, groups=[])
        case ConsumerGroupHeartbeatResponse():
            return consumer_heartbeat_error(code)
        case ConsumerGroupDescribeResponse(groups=described):
            errors = [consumer_group_error(group.group_id, code) for group in described]
            return ConsumerGroupDescribeResponse(throttle_time_ms=0, groups=errors)
        case DeleteGroupsResponse(results=results):
            return DeleteGroupsResponse(
                throttle_time_ms=0,
                results=[DeletableGroupResult(group_id=result.group_id, error_code=code) for result in results],
            )


def described_error(group_id: str, code: Code, message: str | None = None, state: str = "") -> DescribedGroup:
    """A group that could not be described."""
    return DescribedGroup(
        error_code=code,
        error_message=message,
        group_id=group_id,
        group_state=state,
        protocol_type="",
        protocol_data="",
        members=[],
    )


def _all_failed(topic: OffsetCommitResponseTopic, code: Code) -> OffsetCommitResponseTopic:
    return OffsetCommitResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=[
            OffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
            for partition in topic.partitions
        ],
    )
