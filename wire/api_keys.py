"""Every API of Kafka: its key, its name, and the versions that are known, served and advertised.

The *schema* range is Kafka 4.4's: all that we can encode. The *served* ranges are Kafka 4.3.1's, listener by listener:
what a broker or a controller answers. Advertised is what is served and has a handler; Produce alone is advertised from
version 0, because librdkafka judges by that version whether the broker takes compressed batches (KAFKA-18659).
"""

from enum import IntEnum
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kpybroker.wire.schema import Message


class ApiKey(IntEnum):
    """The number of an API, first field of every request."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    WRITE_TXN_MARKERS = 27
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_ACLS = 29
    CREATE_ACLS = 30
    DELETE_ACLS = 31
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    ALTER_REPLICA_LOG_DIRS = 34
    DESCRIBE_LOG_DIRS = 35
    SASL_AUTHENTICATE = 36
    CREATE_PARTITIONS = 37
    CREATE_DELEGATION_TOKEN = 38
    RENEW_DELEGATION_TOKEN = 39
    EXPIRE_DELEGATION_TOKEN = 40
    DESCRIBE_DELEGATION_TOKEN = 41
    DELETE_GROUPS = 42
    ELECT_LEADERS = 43
    INCREMENTAL_ALTER_CONFIGS = 44
    ALTER_PARTITION_REASSIGNMENTS = 45
    LIST_PARTITION_REASSIGNMENTS = 46
    OFFSET_DELETE = 47
    DESCRIBE_CLIENT_QUOTAS = 48
    ALTER_CLIENT_QUOTAS = 49
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50
    ALTER_USER_SCRAM_CREDENTIALS = 51
    VOTE = 52
    BEGIN_QUORUM_EPOCH = 53
    END_QUORUM_EPOCH = 54
    DESCRIBE_QUORUM = 55
    ALTER_PARTITION = 56
    UPDATE_FEATURES = 57
    ENVELOPE = 58
    FETCH_SNAPSHOT = 59
    DESCRIBE_CLUSTER = 60
    DESCRIBE_PRODUCERS = 61
    BROKER_REGISTRATION = 62
    BROKER_HEARTBEAT = 63
    UNREGISTER_BROKER = 64
    DESCRIBE_TRANSACTIONS = 65
    LIST_TRANSACTIONS = 66
    ALLOCATE_PRODUCER_IDS = 67
    CONSUMER_GROUP_HEARTBEAT = 68
    CONSUMER_GROUP_DESCRIBE = 69
    CONTROLLER_REGISTRATION = 70
    GET_TELEMETRY_SUBSCRIPTIONS = 71
    PUSH_TELEMETRY = 72
    ASSIGN_REPLICAS_TO_DIRS = 73
    LIST_CONFIG_RESOURCES = 74
    DESCRIBE_TOPIC_PARTITIONS = 75
    SHARE_GROUP_HEARTBEAT = 76
    SHARE_GROUP_DESCRIBE = 77
    SHARE_FETCH = 78
    SHARE_ACKNOWLEDGE = 79
    ADD_RAFT_VOTER = 80
    REMOVE_RAFT_VOTER = 81
    UPDATE_RAFT_VOTER = 82
    INITIALIZE_SHARE_GROUP_STATE = 83
    READ_SHARE_GROUP_STATE = 84
    WRITE_SHARE_GROUP_STATE = 85
    DELETE_SHARE_GROUP_STATE = 86
    READ_SHARE_GROUP_STATE_SUMMARY = 87
    STREAMS_GROUP_HEARTBEAT = 88
    STREAMS_GROUP_DESCRIBE = 89
    DESCRIBE_SHARE_GROUP_OFFSETS = 90
    ALTER_SHARE_GROUP_OFFSETS = 91
    DELETE_SHARE_GROUP_OFFSETS = 92
    STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE = 93
    UNREGISTER_CONTROLLER = 94


class Api(NamedTuple):
    """What is fixed about an API. Ranges are (first, last), both inclusive; None: not there."""

    key: ApiKey
    name: str
    snake_name: str
    """The name of its module in wire/messages and of its handlers."""
    schema: tuple[int, int]
    flexible_from: int | None
    """First version with compact lengths and tagged fields (KIP-482), in the headers too; None: none has them."""
    served_broker: tuple[int, int] | None
    advertised_broker: tuple[int, int] | None
    served_controller: tuple[int, int] | None
    forwardable: bool
    """A broker passes it on to the controller, in an Envelope."""
    cluster_action: bool
    """Only nodes of the cluster may send it."""

    def request_header_version(self, version: int) -> int:
        """The version of the header before a request of this version."""
        return 2 if self.flexible_from is not None and version >= self.flexible_from else 1

    def response_header_version(self, version: int) -> int:
        """The version of the header before a response. An ApiVersions response must be readable by any client: 0."""
        if self.key == ApiKey.API_VERSIONS:
            return 0
        return 1 if self.flexible_from is not None and version >= self.flexible_from else 0

    def request_class(self) -> "type[Message]":
        """The request's class; imports its module."""
        return self._class("Request")

    def response_class(self) -> "type[Message]":
        """The response's class; imports its module."""
        return self._class("Response")

    def _class(self, suffix: str) -> "type[Message]":
        module = import_module(f"kpybroker.wire.messages.{self.snake_name}")
        declared: type[Message] = getattr(module, self.name + suffix)
        return declared


def _api(
    key: ApiKey,
    name: str,
    schema: str,
    *,
    flexible: int | None = None,
    broker: str | None = None,
    controller: str | None = None,
    advertised_from: int | None = None,
    forwardable: bool = False,
    cluster_action: bool = False,
) -> Api:
    served = _range(broker)
    advertised = (advertised_from, served[1]) if served and advertised_from is not None else served
    known = _range(schema)
    assert known is not None
    return Api(
        key,
        name,
        key.name.lower(),
        known,
        flexible,
        served,
        advertised,
        _range(controller),
        forwardable,
        cluster_action,
    )


def _range(versions: str | None) -> tuple[int, int] | None:
    if versions is None:
        return None
    first, _, last = versions.partition("-")
    return int(first), int(last or first)


APIS: dict[int, Api] = {
    api.key: api
    for api in (
        _api(ApiKey.PRODUCE, "Produce", "3-13", flexible=9, broker="3-13", advertised_from=0),
        _api(ApiKey.FETCH, "Fetch", "4-18", flexible=12, broker="4-18", controller="4-18"),
        _api(ApiKey.LIST_OFFSETS, "ListOffsets", "1-11", flexible=6, broker="1-11"),
        _api(ApiKey.METADATA, "Metadata", "0-13", flexible=9, broker="0-13"),
        _api(ApiKey.OFFSET_COMMIT, "OffsetCommit", "2-10", flexible=8, broker="2-10"),
        _api(ApiKey.OFFSET_FETCH, "OffsetFetch", "1-10", flexible=6, broker="1-10"),
        _api(ApiKey.FIND_COORDINATOR, "FindCoordinator", "0-6", flexible=3, broker="0-6"),
        _api(ApiKey.JOIN_GROUP, "JoinGroup", "0-9", flexible=6, broker="0-9"),
        _api(ApiKey.HEARTBEAT, "Heartbeat", "0-4", flexible=4, broker="0-4"),
        _api(ApiKey.LEAVE_GROUP, "LeaveGroup", "0-5", flexible=4, broker="0-5"),
        _api(ApiKey.SYNC_GROUP, "SyncGroup", "0-5", flexible=4, broker="0-5"),
        _api(ApiKey.DESCRIBE_GROUPS, "DescribeGroups", "0-6", flexible=5, broker="0-6"),
        _api(ApiKey.LIST_GROUPS, "ListGroups", "0-5", flexible=3, broker="0-5"),
        _api(ApiKey.SASL_HANDSHAKE, "SaslHandshake", "0-1", broker="0-1", controller="0-1"),
        _api(ApiKey.API_VERSIONS, "ApiVersions", "0-5", flexible=3, broker="0-4", controller="0-4"),
        _api(ApiKey.CREATE_TOPICS, "CreateTopics", "2-7", flexible=5, broker="2-7", controller="2-7", forwardable=True),
        _api(ApiKey.DELETE_TOPICS, "DeleteTopics", "1-6", flexible=4, broker="1-6", controller="1-6", forwardable=True),
        _api(ApiKey.DELETE_RECORDS, "DeleteRecords", "0-2", flexible=2, broker="0-2"),
        _api(ApiKey.INIT_PRODUCER_ID, "InitProducerId", "0-6", flexible=2, broker="0-5"),
        _api(ApiKey.OFFSET_FOR_LEADER_EPOCH, "OffsetForLeaderEpoch", "2-4", flexible=4, broker="2-4"),
        _api(ApiKey.ADD_PARTITIONS_TO_TXN, "AddPartitionsToTxn", "0-5", flexible=3, broker="0-5"),
        _api(ApiKey.ADD_OFFSETS_TO_TXN, "AddOffsetsToTxn", "0-4", flexible=3, broker="0-4"),
        _api(ApiKey.END_TXN, "EndTxn", "0-5", flexible=3, broker="0-5"),
        _api(ApiKey.WRITE_TXN_MARKERS, "WriteTxnMarkers", "1-2", flexible=1, broker="1-2", cluster_action=True),
        _api(ApiKey.TXN_OFFSET_COMMIT, "TxnOffsetCommit", "0-6", flexible=3, broker="0-5"),
        _api(ApiKey.DESCRIBE_ACLS, "DescribeAcls", "1-3", flexible=2, broker="1-3", controller="1-3"),
        _api(ApiKey.CREATE_ACLS, "CreateAcls", "1-3", flexible=2, broker="1-3", controller="1-3", forwardable=True),
        _api(ApiKey.DELETE_ACLS, "DeleteAcls", "1-3", flexible=2, broker="1-3", controller="1-3", forwardable=True),
        _api(ApiKey.DESCRIBE_CONFIGS, "DescribeConfigs", "1-4", flexible=4, broker="1-4", controller="1-4"),
        _api(ApiKey.ALTER_CONFIGS, "AlterConfigs", "0-2", flexible=2, broker="0-2", controller="0-2", forwardable=True),
        _api(ApiKey.ALTER_REPLICA_LOG_DIRS, "AlterReplicaLogDirs", "1-2", flexible=2, broker="1-2"),
        _api(ApiKey.DESCRIBE_LOG_DIRS, "DescribeLogDirs", "1-5", flexible=2, broker="1-5"),
        _api(ApiKey.SASL_AUTHENTICATE, "SaslAuthenticate", "0-2", flexible=2, broker="0-2", controller="0-2"),
        _api(
            ApiKey.CREATE_PARTITIONS,
            "CreatePartitions",
            "0-3",
            flexible=2,
            broker="0-3",
            controller="0-3",
            forwardable=True,
        ),
        _api(
            ApiKey.CREATE_DELEGATION_TOKEN,
            "CreateDelegationToken",
            "1-3",
            flexible=2,
            broker="1-3",
            controller="1-3",
            forwardable=True,
        ),
        _api(
            ApiKey.RENEW_DELEGATION_TOKEN,
            "RenewDelegationToken",
            "1-2",
            flexible=2,
            broker="1-2",
            controller="1-2",
            forwardable=True,
        ),
        _api(
            ApiKey.EXPIRE_DELEGATION_TOKEN,
            "ExpireDelegationToken",
            "1-2",
            flexible=2,
            broker="1-2",
            controller="1-2",
            forwardable=True,
        ),
        _api(
            ApiKey.DESCRIBE_DELEGATION_TOKEN,
            "DescribeDelegationToken",
            "1-3",
            flexible=2,
            broker="1-3",
            controller="1-3",
        ),
        _api(ApiKey.DELETE_GROUPS, "DeleteGroups", "0-3", flexible=2, broker="0-2"),
        _api(ApiKey.ELECT_LEADERS, "ElectLeaders", "0-2", flexible=2, broker="0-2", controller="0-2", forwardable=True),
        _api(
            ApiKey.INCREMENTAL_ALTER_CONFIGS,
            "IncrementalAlterConfigs",
            "0-1",
            flexible=1,
            broker="0-1",
            controller="0-1",
            forwardable=True,
        ),
        _api(
            ApiKey.ALTER_PARTITION_REASSIGNMENTS,
            "AlterPartitionReassignments",
            "0-1",
            flexible=0,
            broker="0-1",
            controller="0-1",
            forwardable=True,
        ),
        _api(
            ApiKey.LIST_PARTITION_REASSIGNMENTS,
            "ListPartitionReassignments",
            "0",
            flexible=0,
            broker="0",
            controller="0",
            forwardable=True,
        ),
        _api(ApiKey.OFFSET_DELETE, "OffsetDelete", "0", broker="0"),
        _api(ApiKey.DESCRIBE_CLIENT_QUOTAS, "DescribeClientQuotas", "0-1", flexible=1, broker="0-1"),
        _api(
            ApiKey.ALTER_CLIENT_QUOTAS,
            "AlterClientQuotas",
            "0-1",
            flexible=1,
            broker="0-1",
            controller="0-1",
            forwardable=True,
        ),
        _api(
            ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS,
            "DescribeUserScramCredentials",
            "0",
            flexible=0,
            broker="0",
            controller="0",
        ),
        _api(
            ApiKey.ALTER_USER_SCRAM_CREDENTIALS,
            "AlterUserScramCredentials",
            "0",
            flexible=0,
            broker="0",
            controller="0",
            forwardable=True,
        ),
        _api(ApiKey.VOTE, "Vote", "0-2", flexible=0, controller="0-2", cluster_action=True),
        _api(ApiKey.BEGIN_QUORUM_EPOCH, "BeginQuorumEpoch", "0-1", flexible=1, controller="0-1", cluster_action=True),
        _api(ApiKey.END_QUORUM_EPOCH, "EndQuorumEpoch", "0-1", flexible=1, controller="0-1", cluster_action=True),
        _api(
            ApiKey.DESCRIBE_QUORUM,
            "DescribeQuorum",
            "0-2",
            flexible=0,
            broker="0-2",
            controller="0-2",
            forwardable=True,
            cluster_action=True,
        ),
        _api(ApiKey.ALTER_PARTITION, "AlterPartition", "2-3", flexible=0, controller="2-3", cluster_action=True),
        _api(
            ApiKey.UPDATE_FEATURES,
            "UpdateFeatures",
            "0-2",
            flexible=0,
            broker="0-2",
            controller="0-2",
            forwardable=True,
            cluster_action=True,
        ),
        _api(ApiKey.ENVELOPE, "Envelope", "0", flexible=0, controller="0", cluster_action=True),
        _api(ApiKey.FETCH_SNAPSHOT, "FetchSnapshot", "0-1", flexible=0, controller="0-1"),
        _api(ApiKey.DESCRIBE_CLUSTER, "DescribeCluster", "0-2", flexible=0, broker="0-2", controller="0-2"),
        _api(ApiKey.DESCRIBE_PRODUCERS, "DescribeProducers", "0", flexible=0, broker="0"),
        _api(
            ApiKey.BROKER_REGISTRATION, "BrokerRegistration", "0-4", flexible=0, controller="0-4", cluster_action=True
        ),
        _api(ApiKey.BROKER_HEARTBEAT, "BrokerHeartbeat", "0-2", flexible=0, controller="0-2", cluster_action=True),
        _api(
            ApiKey.UNREGISTER_BROKER, "UnregisterBroker", "0", flexible=0, broker="0", controller="0", forwardable=True
        ),
        _api(ApiKey.DESCRIBE_TRANSACTIONS, "DescribeTransactions", "0", flexible=0, broker="0"),
        _api(ApiKey.LIST_TRANSACTIONS, "ListTransactions", "0-2", flexible=0, broker="0-2"),
        _api(
            ApiKey.ALLOCATE_PRODUCER_IDS,
            "AllocateProducerIds",
            "0",
            flexible=0,
            controller="0",
            forwardable=True,
            cluster_action=True,
        ),
        _api(ApiKey.CONSUMER_GROUP_HEARTBEAT, "ConsumerGroupHeartbeat", "0-1", flexible=0, broker="0-1"),
        _api(ApiKey.CONSUMER_GROUP_DESCRIBE, "ConsumerGroupDescribe", "0-1", flexible=0, broker="0-1"),
        _api(ApiKey.CONTROLLER_REGISTRATION, "ControllerRegistration", "0", flexible=0, controller="0"),
        _api(ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, "GetTelemetrySubscriptions", "0", flexible=0, broker="0"),
        _api(ApiKey.PUSH_TELEMETRY, "PushTelemetry", "0", flexible=0, broker="0"),
        _api(ApiKey.ASSIGN_REPLICAS_TO_DIRS, "AssignReplicasToDirs", "0", flexible=0, controller="0"),
        _api(ApiKey.LIST_CONFIG_RESOURCES, "ListConfigResources", "0-1", flexible=0, broker="0-1"),
        _api(ApiKey.DESCRIBE_TOPIC_PARTITIONS, "DescribeTopicPartitions", "0", flexible=0, broker="0"),
        _api(ApiKey.SHARE_GROUP_HEARTBEAT, "ShareGroupHeartbeat", "1", flexible=0, broker="1"),
        _api(ApiKey.SHARE_GROUP_DESCRIBE, "ShareGroupDescribe", "1", flexible=0, broker="1"),
        _api(ApiKey.SHARE_FETCH, "ShareFetch", "1-2", flexible=0, broker="1-2"),
        _api(ApiKey.SHARE_ACKNOWLEDGE, "ShareAcknowledge", "1-2", flexible=0, broker="1-2"),
        _api(
            ApiKey.ADD_RAFT_VOTER, "AddRaftVoter", "0-1", flexible=0, broker="0-1", controller="0-1", forwardable=True
        ),
        _api(
            ApiKey.REMOVE_RAFT_VOTER, "RemoveRaftVoter", "0", flexible=0, broker="0", controller="0", forwardable=True
        ),
        _api(ApiKey.UPDATE_RAFT_VOTER, "UpdateRaftVoter", "0", flexible=0, controller="0"),
        _api(
            ApiKey.INITIALIZE_SHARE_GROUP_STATE,
            "InitializeShareGroupState",
            "0",
            flexible=0,
            broker="0",
            cluster_action=True,
        ),
        _api(ApiKey.READ_SHARE_GROUP_STATE, "ReadShareGroupState", "0", flexible=0, broker="0", cluster_action=True),
        _api(
            ApiKey.WRITE_SHARE_GROUP_STATE, "WriteShareGroupState", "0-1", flexible=0, broker="0-1", cluster_action=True
        ),
        _api(
            ApiKey.DELETE_SHARE_GROUP_STATE, "DeleteShareGroupState", "0", flexible=0, broker="0", cluster_action=True
        ),
        _api(
            ApiKey.READ_SHARE_GROUP_STATE_SUMMARY,
            "ReadShareGroupStateSummary",
            "0-1",
            flexible=0,
            broker="0-1",
            cluster_action=True,
        ),
        _api(ApiKey.STREAMS_GROUP_HEARTBEAT, "StreamsGroupHeartbeat", "0-1", flexible=0, broker="0"),
        _api(ApiKey.STREAMS_GROUP_DESCRIBE, "StreamsGroupDescribe", "0-1", flexible=0, broker="0"),
        _api(ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS, "DescribeShareGroupOffsets", "0-1", flexible=0, broker="0-1"),
        _api(ApiKey.ALTER_SHARE_GROUP_OFFSETS, "AlterShareGroupOffsets", "0", flexible=0, broker="0"),
        _api(ApiKey.DELETE_SHARE_GROUP_OFFSETS, "DeleteShareGroupOffsets", "0", flexible=0, broker="0"),
        _api(
            ApiKey.STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE, "StreamsGroupTopologyDescriptionUpdate", "0", flexible=0
        ),
        _api(ApiKey.UNREGISTER_CONTROLLER, "UnregisterController", "0", flexible=0, forwardable=True),
    )
}
"""All APIs by key. Keys 4 to 7 were between ZooKeeper-era brokers and have no versions any more."""
