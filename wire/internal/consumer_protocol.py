"""What classic consumers tell each other through JoinGroup and SyncGroup: opaque bytes to the broker.

Each is preceded by its version (int16).
"""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int32, Message, Since, Struct, message


class SubscriptionTopicPartition(Struct):
    topic: str
    partitions: list[Int32]


@message(versions="0-3")
class ConsumerProtocolSubscription(Message):
    """What a member wants to read and what it owns already."""

    topics: list[str]
    user_data: bytes | None = None
    owned_partitions: Annotated[list[SubscriptionTopicPartition], Since(1), IGNORABLE] = []
    generation_id: Annotated[Int32, Since(2), IGNORABLE] = -1
    rack_id: Annotated[str | None, Since(3), IGNORABLE] = None


class AssignmentTopicPartition(Struct):
    topic: str
    partitions: list[Int32]


@message(versions="0-3")
class ConsumerProtocolAssignment(Message):
    """What a member is to read."""

    assigned_partitions: list[AssignmentTopicPartition]
    user_data: bytes | None = None
