"""Records of __share_group_state: what became of the records that share groups read (KIP-932)."""

from typing import Annotated

from kpybroker.wire.schema import Int8, Int16, Int32, Int64, Message, Struct, Tag, Uuid, message


@message(key=0, versions="0")
class ShareSnapshotKey(Message):
    """Which share partition a snapshot is of."""

    group_id: str
    topic_id: Uuid
    partition: Int32


class StateBatch(Struct):
    first_offset: Int64
    last_offset: Int64
    delivery_state: Int8
    delivery_count: Int16


@message(key=0, versions="0", flexible="0+")
class ShareSnapshotValue(Message):
    """The whole state of a share partition."""

    snapshot_epoch: Int32
    state_epoch: Int32
    leader_epoch: Int32
    start_offset: Int64
    delivery_complete_count: Annotated[Int32, Tag(0)] = -1
    create_timestamp: Int64
    write_timestamp: Int64
    state_batches: list[StateBatch]


@message(key=1, versions="0")
class ShareUpdateKey(Message):
    """Which share partition an update is of."""

    group_id: str
    topic_id: Uuid
    partition: Int32


@message(key=1, versions="0", flexible="0+")
class ShareUpdateValue(Message):
    """What changed in a share partition since its last snapshot."""

    snapshot_epoch: Int32
    leader_epoch: Int32
    start_offset: Int64
    delivery_complete_count: Annotated[Int32, Tag(0)] = -1
    state_batches: list[StateBatch]
