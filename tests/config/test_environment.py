"""KAFKA_* variables, by the rule of the apache/kafka container image."""

from __future__ import annotations

import pytest

from kpybroker.config import BrokerConfig
from kpybroker.config.environment import setting_name, settings_from


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("KAFKA_NODE_ID", "node.id"),
        ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "listener.security.protocol.map"),
        ("KAFKA_A__B", "a_b"),
        ("KAFKA_A___B", "a-b"),
        ("KAFKA_A____B", "a-.b"),
        ("KAFKA_LISTENER_NAME_X_SCRAM___SHA___256_SASL_JAAS_CONFIG", "listener.name.x.scram-sha-256.sasl.jaas.config"),
    ],
)
def test_mapping(variable: str, name: str) -> None:
    assert setting_name(variable) == name


def test_variables_that_are_no_settings() -> None:
    assert settings_from({"PATH": "/bin", "KAFKA_OPTS": "-Dx", "KAFKA_JMX_OPTS": "", "KAFKA_NODE_ID": "3"}) == {
        "node.id": "3"
    }


def test_listening_on_every_interface_where_only_an_address_to_advertise_is_given() -> None:
    advertised = "PLAINTEXT://broker:9092,EXTERNAL://localhost:29092"
    settings = settings_from({"KAFKA_ADVERTISED_LISTENERS": advertised})
    assert settings["listeners"] == "PLAINTEXT://0.0.0.0:9092,EXTERNAL://0.0.0.0:29092"
    given = {"KAFKA_ADVERTISED_LISTENERS": advertised, "KAFKA_LISTENERS": "A://:1"}
    assert settings_from(given)["listeners"] == "A://:1"
    controller = {"KAFKA_ADVERTISED_LISTENERS": advertised, "KAFKA_PROCESS_ROLES": "controller"}
    assert "listeners" not in settings_from(controller)


def test_the_example_that_the_image_documents() -> None:
    config = BrokerConfig.load(
        env={
            "KAFKA_NODE_ID": "1",
            "KAFKA_PROCESS_ROLES": "broker,controller",
            "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://localhost:9092",
            "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
            "KAFKA_NUM_PARTITIONS": "3",
        }
    )
    assert not config.embedded
    assert config.num_partitions == 3
    assert [str(each) for each in config.reachable.advertised] == ["PLAINTEXT://localhost:9092"]
    assert config.warnings == ()


def test_an_environment_without_settings_leaves_the_profile_in_place() -> None:
    assert BrokerConfig.load(env={"PATH": "/bin", "KAFKA_HEAP_OPTS": "-Xmx1g"}).embedded
