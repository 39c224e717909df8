"""Records of __cluster_metadata (KIP-631): the changes that the active controller appends and every node applies.

The key is the record's type id; `framing` has what stands before the bytes, and which version is written.
"""

from typing import Annotated

from kpybroker.wire.schema import Float64, Int8, Int16, Int32, Int64, Message, Since, Struct, Tag, Uint16, Uuid, message


class BrokerEndpoint(Struct):
    name: str
    host: str
    port: Uint16
    security_protocol: Int16


class BrokerFeature(Struct):
    name: str
    min_supported_version: Int16
    max_supported_version: Int16


@message(key=0, versions="0-4", flexible="0+")
class RegisterBrokerRecord(Message):
    """A broker registered; its epoch is the offset that the controller handed out."""

    broker_id: Int32
    is_migrating_zk_broker: Annotated[bool, Since(2)] = False
    incarnation_id: Uuid
    broker_epoch: Int64
    end_points: list[BrokerEndpoint]
    features: list[BrokerFeature]
    rack: str | None
    fenced: bool = True
    in_controlled_shutdown: Annotated[bool, Since(1)] = False
    log_dirs: Annotated[list[Uuid], Tag(0, since=3)] = []  # KIP-858
    cordoned_log_dirs: Annotated[list[Uuid] | None, Tag(1, since=4)] = None


@message(key=1, versions="0", flexible="0+")
class UnregisterBrokerRecord(Message):
    """A broker's registration is gone."""

    broker_id: Int32
    broker_epoch: Int64


@message(key=2, versions="0", flexible="0+")
class TopicRecord(Message):
    """A topic exists."""

    name: str
    topic_id: Uuid


@message(key=3, versions="0-2", flexible="0+")
class PartitionRecord(Message):
    """A partition exists, with this leader and these replicas."""

    partition_id: Int32 = -1
    topic_id: Uuid
    replicas: list[Int32]
    isr: list[Int32]
    removing_replicas: list[Int32]
    adding_replicas: list[Int32]
    leader: Int32 = -1
    leader_recovery_state: Annotated[Int8, Tag(0)] = 0  # KIP-704
    leader_epoch: Int32 = -1
    partition_epoch: Int32 = -1
    directories: Annotated[list[Uuid], Since(1)] = []  # KIP-858
    eligible_leader_replicas: Annotated[list[Int32] | None, Tag(1, since=2)] = None  # KIP-966
    last_known_elr: Annotated[list[Int32] | None, Tag(2, since=2)] = None


@message(key=4, versions="0", flexible="0+")
class ConfigRecord(Message):
    """One dynamic config of a resource; null removes it."""

    resource_type: Int8
    resource_name: str
    name: str
    value: str | None


@message(key=5, versions="0-2", flexible="0+")
class PartitionChangeRecord(Message):
    """A partition changed: a field that is absent (at its default) stays as it was, and the partition epoch goes up."""

    partition_id: Int32 = -1
    topic_id: Uuid
    isr: Annotated[list[Int32] | None, Tag(0)] = None
    leader: Annotated[Int32, Tag(1)] = -2  # -2: stays, -1: none
    replicas: Annotated[list[Int32] | None, Tag(2)] = None
    removing_replicas: Annotated[list[Int32] | None, Tag(3)] = None
    adding_replicas: Annotated[list[Int32] | None, Tag(4)] = None
    leader_recovery_state: Annotated[Int8, Tag(5)] = -1  # KIP-704
    directories: Annotated[list[Uuid] | None, Tag(8, since=1)] = None  # KIP-858
    eligible_leader_replicas: Annotated[list[Int32] | None, Tag(6, since=2)] = None  # KIP-966
    last_known_elr: Annotated[list[Int32] | None, Tag(7, since=2)] = None


@message(key=7, versions="0", flexible="0+")
class FenceBrokerRecord(Message):
    """A broker is fenced; older than BrokerRegistrationChangeRecord."""

    id: Int32
    epoch: Int64


@message(key=8, versions="0", flexible="0+")
class UnfenceBrokerRecord(Message):
    """A broker is unfenced; older than BrokerRegistrationChangeRecord."""

    id: Int32
    epoch: Int64


@message(key=9, versions="0", flexible="0+")
class RemoveTopicRecord(Message):
    """A topic is gone, and all its partitions."""

    topic_id: Uuid


@message(key=10, versions="0", flexible="0+")
class DelegationTokenRecord(Message):
    """A delegation token (KIP-48, KIP-900)."""

    owner: str
    requester: str
    renewers: list[str]
    issue_timestamp: Int64
    max_timestamp: Int64
    expiration_timestamp: Int64
    token_id: str


@message(key=11, versions="0", flexible="0+")
class UserScramCredentialRecord(Message):
    """A user's SCRAM credential (KIP-554)."""

    name: str
    mechanism: Int8
    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: Int32


@message(key=12, versions="0", flexible="0+")
class FeatureLevelRecord(Message):
    """A finalized feature level; 0 removes it."""

    name: str
    feature_level: Int16


class EntityData(Struct):
    entity_type: str
    entity_name: str | None


@message(key=14, versions="0", flexible="0+")
class ClientQuotaRecord(Message):
    """One quota of an entity."""

    entity: list[EntityData]
    key: str
    value: Float64
    remove: bool


@message(key=15, versions="0", flexible="0+")
class ProducerIdsRecord(Message):
    """A block of producer ids was handed to a broker."""

    broker_id: Int32
    broker_epoch: Int64 = -1
    next_producer_id: Int64


@message(key=17, versions="0-3", flexible="0+")
class BrokerRegistrationChangeRecord(Message):
    """A broker was fenced or unfenced, is shutting down, or has other log directories."""

    broker_id: Int32
    broker_epoch: Int64
    fenced: Annotated[Int8, Tag(0)] = 0
    in_controlled_shutdown: Annotated[Int8, Tag(1, since=1)] = 0
    log_dirs: Annotated[list[Uuid], Tag(2, since=2)] = []  # KIP-858
    cordoned_log_dirs: Annotated[list[Uuid] | None, Tag(3, since=3)] = None


@message(key=18, versions="0", flexible="0+")
class AccessControlEntryRecord(Message):
    """An access control entry."""

    id: Uuid
    resource_type: Int8
    resource_name: str
    pattern_type: Int8
    principal: str
    host: str
    operation: Int8
    permission_type: Int8


@message(key=19, versions="0", flexible="0+")
class RemoveAccessControlEntryRecord(Message):
    """An access control entry is gone."""

    id: Uuid


@message(key=20, versions="0", flexible="0+")
class NoOpRecord(Message):
    """Nothing; moves the offset on while nothing happens (KIP-835)."""


@message(key=21, versions="0", flexible="0+")
class ZkMigrationStateRecord(Message):
    """State of the migration from ZooKeeper; of the past."""

    zk_migration_state: Int8


@message(key=22, versions="0", flexible="0+")
class RemoveUserScramCredentialRecord(Message):
    """A user's SCRAM credential is gone."""

    name: str
    mechanism: Int8


@message(key=23, versions="0", flexible="0+")
class BeginTransactionRecord(Message):
    """Records from here to the end of the transaction are applied together (KIP-868)."""

    name: Annotated[str | None, Tag(0)] = None


@message(key=24, versions="0", flexible="0+")
class EndTransactionRecord(Message):
    """The transaction's records count."""


@message(key=25, versions="0", flexible="0+")
class AbortTransactionRecord(Message):
    """The transaction's records do not count."""

    reason: Annotated[str | None, Tag(0)] = None


@message(key=26, versions="0", flexible="0+")
class RemoveDelegationTokenRecord(Message):
    """A delegation token is gone."""

    token_id: str


class ControllerEndpoint(Struct):
    name: str
    host: str
    port: Uint16
    security_protocol: Int16


class ControllerFeature(Struct):
    name: str
    min_supported_version: Int16
    max_supported_version: Int16


@message(key=27, versions="0", flexible="0+")
class RegisterControllerRecord(Message):
    """A controller's endpoints and features (KIP-919)."""

    controller_id: Int32
    incarnation_id: Uuid
    zk_migration_ready: bool
    end_points: list[ControllerEndpoint]
    features: list[ControllerFeature]


@message(key=28, versions="0", flexible="0+")
class ClearElrRecord(Message):
    """Eligible leader replicas of a topic (of all topics: empty name) are forgotten (KIP-966)."""

    topic_name: str


@message(key=29, versions="0", flexible="0+")
class UnregisterControllerRecord(Message):
    """A controller's registration is gone."""

    controller_id: Int32
