"""What a ConsumerGroupHeartbeat must have, whatever group it is for. The sentences are Kafka's."""

from __future__ import annotations

from collections.abc import Sequence

from kpybroker.coordinators.machines.consumer.member import LEAVE, LEAVE_FOR_A_WHILE
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest

MEMBER_ID_BY_CLIENT_SINCE = 1
"""The version of ConsumerGroupHeartbeat in which the client names the member (KIP-1082)."""


def check_heartbeat(request: ConsumerGroupHeartbeatRequest, version: int, assignors: Sequence[str]) -> None:
    """Raises: Refused: INVALID_REQUEST, UNSUPPORTED_ASSIGNOR."""
    epoch = request.member_epoch
    if version >= MEMBER_ID_BY_CLIENT_SINCE or epoch > 0 or epoch == LEAVE:
        _require_text(request.member_id, "MemberId")
    _require_text(request.group_id, "GroupId")
    _require_text(request.instance_id, "InstanceId")
    _require_text(request.rack_id, "RackId")
    if epoch == 0:
        _check_joining(request)
    elif epoch == LEAVE_FOR_A_WHILE:
        if request.instance_id is None:
            raise Refused(Code.INVALID_REQUEST, "InstanceId can't be null.")
    elif epoch < LEAVE_FOR_A_WHILE:
        raise Refused(Code.INVALID_REQUEST, "MemberEpoch is invalid.")
    if request.server_assignor is not None and request.server_assignor not in assignors:
        raise Refused(
            Code.UNSUPPORTED_ASSIGNOR,
            f"ServerAssignor {request.server_assignor} is not supported. Supported assignors: {', '.join(assignors)}.",
        )


def _check_joining(request: ConsumerGroupHeartbeatRequest) -> None:
    if request.rebalance_timeout_ms == -1:
        raise Refused(Code.INVALID_REQUEST, "RebalanceTimeoutMs must be provided in first request.")
    if request.topic_partitions is None or request.topic_partitions:
        raise Refused(Code.INVALID_REQUEST, "TopicPartitions must be empty when (re-)joining.")
    if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
        raise Refused(
            Code.INVALID_REQUEST,
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        )


def _require_text(value: str | None, name: str) -> None:
    """Java's trim() takes off everything up to the space."""
    if value is not None and all(character <= " " for character in value):
        raise Refused(Code.INVALID_REQUEST, f"{name} can't be empty.")
