"""BrokerConfig: where settings come from, which layer wins, what is refused and what is only remarked on."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpybroker.config import BrokerConfig, ConfigError
from kpybroker.config.attributes import Named
from kpybroker.config.sources import EMBEDDED, read_properties

MINIMAL = (
    "process.roles=broker,controller\nnode.id=7\ncontroller.quorum.bootstrap.servers=localhost:9093\n"
    "listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ncontroller.listener.names=CONTROLLER\n"
)


@pytest.fixture
def properties(tmp_path: Path) -> Path:
    file = tmp_path / "server.properties"
    file.write_text(MINIMAL)
    return file


def test_without_a_file_it_is_the_embedded_profile() -> None:
    config = BrokerConfig.load()
    assert config.embedded
    assert config.warnings == ()
    assert config.roles == {"broker", "controller"}
    assert config.node_id == 1
    assert config["broker.id"] == 1, "the old name of node.id"
    assert config.data_dirs == (Path("kpybroker-data"),)
    assert config.metadata_dir == Path("kpybroker-data")
    assert config.group_initial_rebalance_delay_ms == 0
    assert config.offsets_topic_replication_factor == 1
    assert config.static == {**EMBEDDED, "broker.id": "1"}


def test_attributes_and_names_are_the_same_values() -> None:
    config = BrokerConfig.load(overrides={"num.partitions": "6", "auto.create.topics.enable": "FALSE"})
    assert config.num_partitions == config["num.partitions"] == 6
    assert config.auto_create_topics_enable is config["auto.create.topics.enable"] is False
    assert config.broker_rack is None
    assert "num.partitions" in set(config.names())


def test_a_name_that_is_no_setting() -> None:
    with pytest.raises(KeyError):
        BrokerConfig.load()["num.partition"]


def test_it_does_not_change() -> None:
    config = BrokerConfig.load()
    with pytest.raises(AttributeError, match="does not change"):
        config.num_partitions = 3  # type: ignore[misc, assignment]
    with pytest.raises(AttributeError, match=r"num\.partitions is known to a configuration"):
        Named.__get__(vars(BrokerConfig)["num_partitions"], None)


def test_a_file_takes_the_place_of_the_profile(properties: Path) -> None:
    config = BrokerConfig.load(properties)
    assert not config.embedded
    assert config.node_id == 7
    assert config.offsets_topic_replication_factor == 3
    assert config.data_dirs == (Path("/tmp/kafka-logs"),)  # Kafka's own default of log.dir


def test_overrides_beat_the_environment_which_beats_the_file(properties: Path) -> None:
    with properties.open("a") as file:
        file.write("num.partitions=2\nlog.dirs=/a,/b\nnum.io.threads=3\n")
    env = {"KAFKA_NUM_PARTITIONS": "3", "KAFKA_METADATA_LOG_DIR": "/meta"}
    config = BrokerConfig.load(properties, {"num.partitions": "4"}, env)
    assert config.num_partitions == 4
    assert BrokerConfig.load(properties, None, env).num_partitions == 3
    assert BrokerConfig.load(properties).num_partitions == 2
    assert config.data_dirs == (Path("/a"), Path("/b"))
    assert config.metadata_dir == Path("/meta")


def test_properties_are_java_s(tmp_path: Path) -> None:
    file = tmp_path / "p"
    file.write_bytes(
        b"# remark\n! another\n a.b = c \n"
        b"log.dirs=/one,\\\n    /two\n"
        b"key\\ with\\:signs : v\\u00e4lue\\twith tab\n"
        b"latin=\xe4\n"
        b"empty\n"
        b"twice=1\ntwice=2\n"
    )
    assert read_properties(file) == {
        "a.b": "c ",
        "log.dirs": "/one,/two",
        "key with:signs": "välue\twith tab",
        "latin": "ä",
        "empty": "",
        "twice": "2",
    }


@pytest.mark.parametrize("content", [b"a=\\u12", b"a=\\uzzzz"])
def test_a_file_that_is_not_properties(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "p"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"is not a \.properties file"):
        BrokerConfig.load(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*: No such file or directory"):
        BrokerConfig.load(tmp_path / "absent")


def test_what_the_environment_is_asked_for_only(properties: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_NUM_PARTITIONS", "9")
    assert BrokerConfig.load(properties).num_partitions == 1


def test_unknown_names(properties: Path) -> None:
    with pytest.raises(ConfigError, match=r"^there is no setting num\.partition; did you mean num\.partitions\?$"):
        BrokerConfig.load(overrides={"num.partition": "3"})
    with pytest.raises(ConfigError, match=r"^there is no setting quite\.another$"):
        BrokerConfig.load(overrides={"quite.another": "3"})
    with properties.open("a") as file:
        file.write("num.partition=3\n")
    config = BrokerConfig.load(properties, None, {"KAFKA_HEAP_OPTS": "-Xmx1g", "KAFKA_LOG_DIRRS": "/a"})
    assert config.warnings == (
        f"in {properties} there is no setting num.partition; did you mean num.partitions?",
        "in the environment there is no setting log.dirrs; did you mean log.dirs?",
    )


def test_settings_without_effect_are_named_once() -> None:
    config = BrokerConfig.load(overrides={"num.io.threads": "3", "metric.reporters": "org.a.B", "num.partitions": "2"})
    assert config.warnings == (
        "without effect in this broker: num.io.threads",
        "metric.reporters: without effect in this broker: org.a.B",
    )
    assert config["num.io.threads"] == 3


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        ({"num.partitions": "many"}, "Invalid value many for configuration num.partitions: Not a number of type INT"),
        ({"num.partitions": "0"}, "Invalid value 0 for configuration num.partitions: Value must be at least 1"),
        ({"broker.id": "2"}, "node.id is 1 and broker.id, its old name, is 2: they must agree"),
        ({"log.roll.ms": "0"}, "log.roll.ms must be at least 1"),
        ({"log.roll.jitter.ms": "-1"}, "log.roll.jitter.ms must not be negative"),
        ({"log.retention.minutes": "0"}, "log.retention.ms must be at least 1, or -1 for no limit"),
        (
            {"log.cleaner.threads": "2", "log.cleaner.dedupe.buffer.size": "2097152"},
            "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.",
        ),
        ({"log.cleaner.threads": "0"}, "log.cleaner.threads must be at least 1"),
        ({"cordoned.log.dirs": "/elsewhere"}, "Missing entries : /elsewhere"),
        ({"cordoned.log.dirs": "*,/elsewhere"}, "it must not contain other values"),
        (
            {"group.share.session.timeout.ms": "1"},
            "group.share.session.timeout.ms must be greater than or equal to group.share.min.session.timeout.ms",
        ),
        ({"max.connections.per.ip.overrides": "localhost"}, "'localhost' is not address:count"),
        ({"max.connections.per.ip.overrides": "a:1,b:x"}, "'b:x' has no number for b"),
        ({"max.connections.per.ip": "0"}, "max.connections.per.ip can be set to zero only if"),
        ({"controller.quorum.voters": "1@h"}, "Each entry should be in the form id@host:port"),
        ({"broker.rack": "a\nb"}, "Invalid value for configuration broker.rack: it has a line break"),
    ],
)
def test_refused(overrides: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        BrokerConfig.load(overrides=overrides)
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_required_settings(tmp_path: Path) -> None:
    file = tmp_path / "server.properties"
    file.write_text("num.partitions=3\n")
    with pytest.raises(ConfigError, match=r"^process\.roles must be set: it has no default$"):
        BrokerConfig.load(file)


def test_the_old_name_of_the_node_s_id(properties: Path) -> None:
    properties.write_text(MINIMAL.replace("node.id", "broker.id"))
    assert BrokerConfig.load(properties).node_id == 7


def test_settings_of_one_listener() -> None:
    config = BrokerConfig.load(overrides={"listener.name.plaintext.max.connections": "5"})
    assert config["max.connections"] == 2**31 - 1
    assert config.for_listener("PLAINTEXT", "max.connections") == 5
    assert config.for_listener("CONTROLLER", "max.connections") == 2**31 - 1
    with pytest.raises(ConfigError, match="Not a number of type INT"):
        BrokerConfig.load(overrides={"listener.name.plaintext.max.connections": "x"})


def test_dynamic_layers() -> None:
    static = BrokerConfig.load(overrides={"message.max.bytes": "100", "log.roll.ms": "1000"})
    config = static.with_dynamic(
        default={"message.max.bytes": "200", "min.insync.replicas": "2", "leader.replication.throttled.rate": "5"},
        broker={"message.max.bytes": "300"},
    )
    assert (config.message_max_bytes, config.min_insync_replicas) == (300, 2)
    assert config["leader.replication.throttled.rate"] == 5, "exists only as a dynamic setting"
    assert static["leader.replication.throttled.rate"] == 2**63 - 1
    assert config.warnings == ()
    assert static.message_max_bytes == 100, "the static configuration stays as it is"
    again = config.with_dynamic(default={}, broker={})
    assert (again.message_max_bytes, again["log.roll.ms"]) == (100, 1000)
    assert again.embedded


def test_a_dynamic_synonym_takes_the_place_of_a_static_one() -> None:
    static = BrokerConfig.load(overrides={"log.retention.minutes": "5"})
    config = static.with_dynamic(default={"log.retention.ms": "7"}, broker={})
    assert (config["log.retention.ms"], config["log.retention.minutes"]) == (7, None)


def test_dynamic_settings_that_cannot_be_obeyed() -> None:
    config = BrokerConfig.load().with_dynamic(
        default={"num.partitions": "5", "listeners": "A://h:1", "message.max.bytes": "x"},
        broker={"log.segment.bytes": "1", "ssl.keystore.location": "/x", "principal.builder.class": "org.a.B"},
    )
    assert config.warnings == (
        "num.partitions, set for all brokers, is left out: can be set only before a broker starts",
        "listeners, set for all brokers, is left out: can be set only for one broker",
        "message.max.bytes, set for all brokers, is left out: Invalid value x for configuration message.max.bytes:"
        " Not a number of type INT",
        "ssl.keystore.location, set for this broker, is left out: can be changed only for one listener, by its prefix",
        "log.segment.bytes, set for this broker, is left out: Invalid value 1 for configuration log.segment.bytes:"
        " Value must be at least 1048576",
        "principal.builder.class, set for this broker, is left out: Invalid value org.a.B for configuration"
        " principal.builder.class: Class org.a.B could not be found.",
    )
    assert config.num_partitions == 1


def test_a_dynamic_setting_of_a_plugin_is_kept() -> None:
    config = BrokerConfig.load().with_dynamic(default={"some.plugin.setting": "1"}, broker={})
    assert config.dynamic_default == {"some.plugin.setting": "1"}
    assert config.warnings == ()


def test_dynamic_settings_that_do_not_fit_together() -> None:
    with pytest.raises(ConfigError, match=r"log\.cleaner\.dedupe\.buffer\.size must be at least 1MB"):
        BrokerConfig.load().with_dynamic(
            default={"log.cleaner.dedupe.buffer.size": "2000000"}, broker={"log.cleaner.threads": "2"}
        )
