"""Images, states and requests for the tests of decisions."""

import msgspec.structs

from kpybroker.cluster.config_rules import NodeConfigRules
from kpybroker.cluster.image import EMPTY, ClusterImage, Endpoint
from kpybroker.cluster.image_change import ImageChange
from kpybroker.cluster.machines.decision import Caller, Settings, State
from kpybroker.cluster.replay import apply_record
from kpybroker.config import BrokerConfig
from kpybroker.security.operations import Operation, Resource
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.messages.create_topics import CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig

CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"
LISTENER = Endpoint("PLAINTEXT", "localhost", 9092, 0)
CALLER = Caller(api_version=7)


def directory(broker_id: int) -> bytes:
    return b"directory of %03d" % broker_id


def topic_id(number: int) -> bytes:
    return b"id of topic %04d" % number


def settings(**overrides) -> Settings:
    """The settings of node 1, on the embedded profile; `overrides` are Kafka's names with underscores."""
    config = BrokerConfig.load(None, {name.replace("_", "."): value for name, value in overrides.items()}, None)
    return Settings(
        node_id=1,
        cluster_id=CLUSTER_ID,
        num_partitions=config.num_partitions,
        default_replication_factor=config.default_replication_factor,
        min_insync_replicas=config.min_insync_replicas,
        delete_topic_enable=config.delete_topic_enable,
        rules=NodeConfigRules(config),
    )


SETTINGS = settings()


def state(image: ClusterImage, of: Settings = SETTINGS) -> State:
    return State(image, of)


def apply(image: ClusterImage, *records) -> ClusterImage:
    """The image after records."""
    change = ImageChange(image)
    for number, record in enumerate(records, 1):
        apply_record(change, record, image.offset + number)
    return change.finish(offset=image.offset + len(records), epoch=1, timestamp=0).after


def features(**levels) -> list:
    named = {"metadata.version": 30, **{name.replace("_", "."): level for name, level in levels.items()}}
    return [rec.FeatureLevelRecord(name=name, feature_level=level) for name, level in named.items()]


def broker(broker_id: int, *, fenced=False, rack=None, epoch=None, cordoned=None, shutting_down=False):
    return rec.RegisterBrokerRecord(
        broker_id=broker_id,
        incarnation_id=b"incarnation %04d" % broker_id,
        broker_epoch=broker_id * 10 if epoch is None else epoch,
        end_points=[rec.BrokerEndpoint(name="PLAINTEXT", host="localhost", port=9092, security_protocol=0)],
        features=[],
        rack=rack,
        fenced=fenced,
        in_controlled_shutdown=shutting_down,
        log_dirs=[directory(broker_id)],
        cordoned_log_dirs=cordoned,
    )


def topic(number: int, name: str, *replicas: list[int], **fields) -> list:
    """A topic with one partition for each list of replicas, all of them in sync, led by the first."""
    return [
        rec.TopicRecord(name=name, topic_id=topic_id(number)),
        *(partition(topic_id(number), index, list(given), **fields) for index, given in enumerate(replicas)),
    ]


def partition(of: bytes, index: int, replicas: list[int], **fields):
    values = {
        "partition_id": index,
        "topic_id": of,
        "replicas": replicas,
        "isr": replicas,
        "removing_replicas": [],
        "adding_replicas": [],
        "leader": replicas[0],
        "leader_epoch": 0,
        "partition_epoch": 0,
        "directories": [directory(replica) for replica in replicas],
    }
    return rec.PartitionRecord(**{**values, **fields})


def config(resource_type: int, resource_name: str, name: str, value: str | None):
    return rec.ConfigRecord(resource_type=resource_type, resource_name=resource_name, name=name, value=value)


def cluster(*brokers, elr=True) -> ClusterImage:
    """An image with features and brokers (broker 1 alone if none is given)."""
    levels = {"eligible.leader.replicas.version": 1} if elr else {}
    image = apply(EMPTY, *features(**levels))
    return apply(image, *(brokers or [broker(1)]))


def wanted(name="t", partitions=-1, replicas=-1, assignments=None, configs=()) -> CreatableTopic:
    """A topic to be created."""
    return CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replicas,
        assignments=[
            CreatableReplicaAssignment(partition_index=index, broker_ids=ids)
            for index, ids in (assignments.items() if isinstance(assignments, dict) else assignments or ())
        ],
        configs=[CreatableTopicConfig(name=key, value=value) for key, value in configs],
    )


def only(*rights: tuple[Operation, Resource, str], **fields) -> Caller:
    """A caller who has these rights and no other."""
    return msgspec.structs.replace(
        CALLER, allows=lambda operation, kind, name: (operation, kind, name) in rights, **fields
    )
