"""Topics that are created because somebody asked for them: what they are created with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.cluster.names import CONSUMER_OFFSETS, SHARE_GROUP_STATE, TRANSACTION_STATE
from kpybroker.wire.messages.create_topics import CreatableTopic, CreatableTopicConfig

if TYPE_CHECKING:
    from kpybroker.config import BrokerConfig

CREATE_TOPICS_VERSION = 7
"""The version at which a broker asks the controller for topics."""
AUTO_CREATE_TIMEOUT_MS = 30_000
BROKER_DEFAULT = -1


def auto_topic(config: BrokerConfig, name: str) -> CreatableTopic:
    """The creation of a topic as a broker asks for it: internal ones by their settings, others by the defaults."""
    if name == CONSUMER_OFFSETS:
        # Compression is the record's writer's choice (offsets.topic.compression.codec), not the topic's.
        policy = {"cleanup.policy": "compact", "compression.type": "producer"}
        return _internal(config, name, "offsets.topic", policy)
    if name == TRANSACTION_STATE:
        policy = {
            "cleanup.policy": "compact",
            "compression.type": "uncompressed",
            "unclean.leader.election.enable": "false",
        }
        policy["min.insync.replicas"] = str(config["transaction.state.log.min.isr"])
        return _internal(config, name, "transaction.state.log", policy)
    if name == SHARE_GROUP_STATE:
        policy = {"cleanup.policy": "delete", "compression.type": "producer", "retention.ms": "-1"}
        policy["min.insync.replicas"] = str(config["share.coordinator.state.topic.min.isr"])
        return _internal(config, name, "share.coordinator.state.topic", policy)
    return CreatableTopic(
        name=name, num_partitions=BROKER_DEFAULT, replication_factor=BROKER_DEFAULT, assignments=[], configs=[]
    )


def _internal(config: BrokerConfig, name: str, prefix: str, configs: dict[str, str]) -> CreatableTopic:
    configs["segment.bytes"] = str(config[f"{prefix}.segment.bytes"])
    partitions, replicas = config[f"{prefix}.num.partitions"], config[f"{prefix}.replication.factor"]
    assert isinstance(partitions, int)
    assert isinstance(replicas, int)
    return CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replicas,
        assignments=[],
        configs=[CreatableTopicConfig(name=key, value=value) for key, value in configs.items()],
    )
