"""What may be done to what: Kafka's ACL operations and resource types, by their numbers on the wire."""

from enum import IntEnum

from kpybroker.wire.codes import Code


class Operation(IntEnum):
    """AclOperation's codes; also the bit of an operation in an authorized-operations field (KIP-430)."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14
    TWO_PHASE_COMMIT = 15


class Resource(IntEnum):
    """ResourceType's codes."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


CLUSTER_NAME = "kafka-cluster"
"""The one name of the cluster resource."""

_O = Operation

SUPPORTED_OPERATIONS: dict[Resource, tuple[Operation, ...]] = {
    Resource.TOPIC: (
        _O.READ, _O.WRITE, _O.CREATE, _O.DELETE, _O.ALTER, _O.DESCRIBE, _O.DESCRIBE_CONFIGS, _O.ALTER_CONFIGS,
    ),
    Resource.GROUP: (_O.READ, _O.DELETE, _O.DESCRIBE, _O.DESCRIBE_CONFIGS, _O.ALTER_CONFIGS),
    Resource.CLUSTER: (
        _O.CREATE, _O.ALTER, _O.DESCRIBE, _O.CLUSTER_ACTION, _O.DESCRIBE_CONFIGS, _O.ALTER_CONFIGS, _O.IDEMPOTENT_WRITE,
    ),
    Resource.TRANSACTIONAL_ID: (_O.WRITE, _O.DESCRIBE, _O.TWO_PHASE_COMMIT),
    Resource.DELEGATION_TOKEN: (_O.DESCRIBE,),
    Resource.USER: (_O.CREATE_TOKENS, _O.DESCRIBE_TOKENS),
}  # fmt: skip
"""What can be granted on a resource of each type; the universe of an authorized-operations field."""

AUTHORIZATION_FAILED: dict[Resource, Code] = {
    Resource.TOPIC: Code.TOPIC_AUTHORIZATION_FAILED,
    Resource.GROUP: Code.GROUP_AUTHORIZATION_FAILED,
    Resource.CLUSTER: Code.CLUSTER_AUTHORIZATION_FAILED,
    Resource.TRANSACTIONAL_ID: Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    Resource.DELEGATION_TOKEN: Code.DELEGATION_TOKEN_AUTHORIZATION_FAILED,
}
"""The error of a refused access to each type of resource."""
