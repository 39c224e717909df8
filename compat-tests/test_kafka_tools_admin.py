"""Apache Kafka's command-line tools: configs, records, logs, features, the cluster, the quorum, leaders, replicas."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from harness.brokers import BrokerUnderTest
from harness.clients import PARTITIONS
from harness.clients.confluent import Confluent
from harness.java_clients import eventually
from harness.java_tools import (
    CLIENT_METRICS,
    CLUSTER,
    CONFIGS,
    DELETE_RECORDS,
    FEATURES,
    GET_OFFSETS,
    LEADER_ELECTION,
    LOG_DIRS,
    METADATA_QUORUM,
    REASSIGN_PARTITIONS,
    TRANSACTIONS,
    Tools,
)


@pytest.fixture
def broker_id(kafka: Tools) -> str:
    """The one broker's id, as the cluster tool lists it."""
    (found,) = re.findall(r"^(\d+) ", kafka.last(CLUSTER, "list-endpoints"), re.MULTILINE)
    return str(found)


@pytest.mark.needs("DescribeConfigs", "IncrementalAlterConfigs")
def test_configs_of_a_topic(kafka: Tools, topic: str) -> None:
    of_topic = ("--entity-type", "topics", "--entity-name", topic)
    changes = "retention.ms=5000000,cleanup.policy=[compact,delete]"
    done = f"Completed updating config for topic {topic}.\n"
    assert kafka.out(CONFIGS, "--alter", *of_topic, "--add-config", changes) == done
    assert kafka.out(CONFIGS, "--describe", *of_topic).splitlines() == [
        f"Dynamic configs for topic {topic} are:",
        "  cleanup.policy=compact,delete sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact,delete, "
        "DEFAULT_CONFIG:log.cleanup.policy=delete}",
        "  retention.ms=5000000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=5000000}",
    ]
    assert kafka.out(CONFIGS, "--alter", *of_topic, "--delete-config", "retention.ms") == done
    assert "retention.ms=" not in kafka.out(CONFIGS, "--describe", "--topic", topic)
    assert "  retention.ms=604800000 " in kafka.out(CONFIGS, "--describe", "--topic", topic, "--all")
    wrong = kafka(CONFIGS, "--alter", *of_topic, "--add-config", "retention.ms=soon")
    assert wrong.code == 1
    assert "Invalid value soon for configuration retention.ms: Not a number of type LONG" in wrong.out + wrong.err


@pytest.mark.needs("DescribeConfigs", "IncrementalAlterConfigs")
def test_configs_of_brokers(kafka: Tools, broker_id: str) -> None:
    every = ("--entity-type", "brokers", "--entity-default")
    one = ("--entity-type", "brokers", "--entity-name", broker_id)
    done = "Completed updating default config for brokers in the cluster.\n"
    assert kafka.out(CONFIGS, "--alter", *every, "--add-config", "log.cleaner.backoff.ms=16000") == done
    synonym = "DYNAMIC_DEFAULT_BROKER_CONFIG:log.cleaner.backoff.ms=16000"
    line = f"  log.cleaner.backoff.ms=16000 sensitive=false synonyms={{{synonym}}}"
    eventually(lambda: line in kafka.out(CONFIGS, "--describe", *every).splitlines(), True)
    assert kafka.out(CONFIGS, "--alter", *every, "--delete-config", "log.cleaner.backoff.ms") == done
    done = f"Completed updating config for broker {broker_id}.\n"
    assert kafka.out(CONFIGS, "--alter", *one, "--add-config", "log.cleaner.backoff.ms=17000") == done
    eventually(lambda: "  log.cleaner.backoff.ms=17000 " in kafka.out(CONFIGS, "--describe", *one), True)
    assert kafka.out(CONFIGS, "--alter", *one, "--delete-config", "log.cleaner.backoff.ms") == done
    everything = kafka.out(CONFIGS, "--describe", "--broker", broker_id, "--all")
    assert everything.startswith(f"All configs for broker {broker_id} are:\n")
    assert "\n  num.partitions=1 sensitive=false synonyms={STATIC_BROKER_CONFIG:num.partitions=1, " in everything
    read_only = kafka(CONFIGS, "--alter", *one, "--add-config", "log.dirs=/elsewhere")
    assert read_only.code == 1
    assert "Cannot update these configs dynamically: [log.dirs]" in read_only.out + read_only.err


@pytest.mark.needs("DescribeConfigs", "IncrementalAlterConfigs")
def test_configs_of_a_group(kafka: Tools, name: str) -> None:
    group = ("--entity-type", "groups", "--entity-name", name)
    done = f"Completed updating config for group {name}.\n"
    assert kafka.out(CONFIGS, "--alter", *group, "--add-config", "consumer.session.timeout.ms=50000") == done
    described = "  consumer.session.timeout.ms=50000 sensitive=false synonyms={DYNAMIC_GROUP_CONFIG:"
    eventually(lambda: described in kafka.out(CONFIGS, "--describe", *group), True)
    assert kafka.out(CONFIGS, "--alter", *group, "--delete-config", "consumer.session.timeout.ms") == done


@pytest.mark.needs("DescribeConfigs", "IncrementalAlterConfigs")
def test_configs_of_loggers(kafka: Tools, broker_id: str) -> None:
    loggers = ("--entity-type", "broker-loggers", "--entity-name", broker_id)
    names = re.findall(
        r"^  ([\w.]+)=\w+ sensitive=false synonyms={}$", kafka.out(CONFIGS, "--describe", *loggers), re.M
    )
    name = max(set(names) - {"root"})
    done = f"Completed updating config for broker-logger {broker_id}.\n"
    assert kafka.out(CONFIGS, "--alter", *loggers, "--add-config", f"{name}=DEBUG") == done
    line = f"  {name}=DEBUG sensitive=false synonyms={{}}"
    assert line in kafka.out(CONFIGS, "--describe", *loggers).splitlines()
    assert kafka.out(CONFIGS, "--alter", *loggers, "--delete-config", name) == done
    assert line not in kafka.out(CONFIGS, "--describe", *loggers).splitlines()


def test_configs_of_quotas(kafka: Tools, name: str) -> None:
    client = ("--entity-type", "clients", "--entity-name", name)
    done = f"Completed updating config for client {name}.\n"
    assert kafka.out(CONFIGS, "--alter", *client, "--add-config", "producer_byte_rate=1024") == done
    described = f"Quota configs for client-id '{name}' are producer_byte_rate=1024.0\n"
    eventually(lambda: kafka.out(CONFIGS, "--describe", *client), described)
    both = ("--entity-type", "users", "--entity-default", *client)
    kafka.out(CONFIGS, "--alter", *both, "--add-config", "request_percentage=90")
    described = f"Quota configs for the default user-principal, client-id '{name}' are request_percentage=90.0\n"
    eventually(lambda: kafka.out(CONFIGS, "--describe", *both), described)
    kafka.out(CONFIGS, "--alter", *both, "--delete-config", "request_percentage")
    assert kafka.out(CONFIGS, "--alter", *client, "--delete-config", "producer_byte_rate") == done
    eventually(lambda: kafka.out(CONFIGS, "--describe", *client), "")


@pytest.mark.needs("DescribeConfigs", "IncrementalAlterConfigs", "ListConfigResources")
def test_client_metrics(kafka: Tools, name: str) -> None:
    wanted = ("--metrics", "org.apache.kafka.producer.", "--interval", "60000")
    altered = kafka.out(CLIENT_METRICS, "--alter", "--name", name, *wanted)
    assert altered == f"Altered client metrics config for {name}.\n"
    eventually(lambda: name in kafka.out(CLIENT_METRICS, "--list").splitlines(), True)
    assert kafka.out(CLIENT_METRICS, "--describe", "--name", name).splitlines() == [
        f"Client metrics configs for {name} are:",
        "  interval.ms=60000",
        "  match=",
        "  metrics=org.apache.kafka.producer.",
    ]
    deleted = kafka.out(CLIENT_METRICS, "--delete", "--name", name)
    assert deleted == f"Deleted client metrics config for {name}.\n"


@pytest.mark.needs("DeleteRecords")
def test_delete_records(kafka: Tools, broker: BrokerUnderTest, topic: str, tmp_path: Path) -> None:
    Confluent().write(broker.address, topic, "none", [b"value"] * 60)
    wanted = tmp_path / "offsets.json"
    rows = [{"topic": topic, "partition": 0, "offset": 4}, {"topic": topic, "partition": 1, "offset": -1}]
    wanted.write_text(json.dumps({"version": 1, "partitions": rows}))
    out = kafka.out(DELETE_RECORDS, "--offset-json-file", str(wanted))
    first, second, *marks = out.splitlines()
    assert (first, second) == ("Executing records delete operation", "Records delete operation completed:")
    assert sorted(marks) == [f"partition: {topic}-0\tlow_watermark: 4", f"partition: {topic}-1\tlow_watermark: 10"]
    earliest = kafka.out(GET_OFFSETS, "--topic", topic, "--time", "earliest").splitlines()
    assert earliest[:3] == [f"{topic}:0:4", f"{topic}:1:10", f"{topic}:2:0"]


@pytest.mark.needs("DescribeLogDirs")
def test_log_dirs(kafka: Tools, broker: BrokerUnderTest, topic: str, broker_id: str) -> None:
    Confluent().write(broker.address, topic, "none", [b"value"] * 60)
    *words, found = kafka.out(LOG_DIRS, "--describe", "--topic-list", topic).splitlines()
    assert words == [
        "Querying brokers for log directories information",
        f"Received log directory information from brokers {broker_id}",
    ]
    (described,) = json.loads(found)["brokers"]
    (directory,) = described["logDirs"]
    assert (described["broker"], directory["error"]) == (int(broker_id), None)
    partitions = sorted(directory["partitions"], key=lambda each: each["partition"])
    assert [each["partition"] for each in partitions] == [f"{topic}-{number}" for number in range(PARTITIONS)]
    assert all(each["size"] > 60 and each["offsetLag"] == 0 and not each["isFuture"] for each in partitions)


def test_features_describe(kafka: Tools) -> None:
    out = kafka.out(FEATURES, "describe")
    columns = ("Feature", "SupportedMinVersion", "SupportedMaxVersion", "FinalizedVersionLevel")
    row = r"\s+".join(rf"{column}: (\S+)" for column in columns)
    rows = re.findall(rf"^{row}\s+Epoch: \d+", out, re.MULTILINE)
    assert sorted(rows) == [
        ("eligible.leader.replicas.version", "0", "1", "1"),
        ("group.version", "0", "1", "1"),
        ("kraft.version", "0", "1", "1"),
        ("metadata.version", "3.3-IV3", "4.3-IV0", "4.3-IV0"),
        ("share.version", "0", "1", "1"),
        ("streams.version", "0", "1", "1"),
        ("transaction.version", "0", "2", "2"),
    ]


@pytest.mark.needs("UpdateFeatures")
def test_features_upgrade_and_downgrade(kafka: Tools) -> None:
    """Tried out only: what a cluster has is hard to take back."""
    upgrade = kafka.out(FEATURES, "upgrade", "--feature", "group.version=1", "--dry-run")
    assert upgrade == "group.version can be upgraded to 1.\n"
    downgrade = kafka.out(FEATURES, "downgrade", "--feature", "group.version=0", "--dry-run")
    assert downgrade == "group.version can be downgraded to 0.\n"
    unknown = kafka(FEATURES, "upgrade", "--feature", "no.such.feature=1", "--dry-run")
    assert unknown.code == 1
    assert "Can not upgrade no.such.feature to 1." in unknown.out + unknown.err


def test_cluster(kafka: Tools, broker: BrokerUnderTest) -> None:
    assert re.fullmatch(r"Cluster ID: \S{22}\n", kafka.last(CLUSTER, "cluster-id"))
    header, row = kafka.last(CLUSTER, "list-endpoints").splitlines()
    assert header.split() == ["ID", "HOST", "PORT", "RACK", "STATE", "ENDPOINT_TYPE"]
    _, host, port, *others = row.split()
    assert f"{host}:{port}" == broker.address
    assert others == ["null", "unfenced", "broker"]


@pytest.mark.needs("UnregisterBroker")
def test_cluster_unregister(kafka: Tools, broker: BrokerUnderTest) -> None:
    result = kafka.bare(CLUSTER, "unregister", "--bootstrap-server", broker.address, "--id", "999")
    assert result.code == 1
    assert "Broker ID 999 is not currently registered" in result.err


@pytest.mark.needs("DescribeQuorum")
def test_metadata_quorum(kafka: Tools, broker_id: str) -> None:
    status = dict(line.split(":", 1) for line in kafka.out(METADATA_QUORUM, "describe", "--status").splitlines())
    assert list(status) == [
        "ClusterId",
        "LeaderId",
        "LeaderEpoch",
        "HighWatermark",
        "MaxFollowerLag",
        "MaxFollowerLagTimeMs",
        "CurrentVoters",
        "CurrentObservers",
    ]
    assert status["LeaderId"].strip() == broker_id
    assert (status["MaxFollowerLag"].strip(), status["MaxFollowerLagTimeMs"].strip()) == ("0", "0")
    (voter,) = json.loads(status["CurrentVoters"])
    assert voter["id"] == int(broker_id)
    assert len(voter["directoryId"]) == 22
    assert voter["endpoints"][0].startswith("CONTROLLER://")
    assert json.loads(status["CurrentObservers"]) == []
    header, row = kafka.out(METADATA_QUORUM, "describe", "--replication").splitlines()
    assert header.split()[:4] == ["NodeId", "DirectoryId", "LogEndOffset", "Lag"]
    assert row.split()[0] == broker_id
    assert (row.split()[3], row.split()[-1]) == ("0", "Leader")


@pytest.mark.needs("ElectLeaders")
def test_leader_election(kafka: Tools, topic: str) -> None:
    one = ("--election-type", "preferred", "--topic", topic, "--partition", "0")
    assert kafka.out(LEADER_ELECTION, *one) == f"Valid replica already elected for partitions {topic}-0\n"
    assert kafka.out(LEADER_ELECTION, "--election-type", "preferred", "--all-topic-partitions") == ""
    nowhere = kafka(LEADER_ELECTION, "--election-type", "unclean", "--topic", "nowhere", "--partition", "0")
    assert nowhere.code == 1
    assert "nowhere-0: " in nowhere.out + nowhere.err


@pytest.mark.needs("AlterPartitionReassignments", "ListPartitionReassignments", "DescribeLogDirs")
def test_reassign_partitions_list_and_generate(kafka: Tools, topic: str, broker_id: str, tmp_path: Path) -> None:
    assert kafka.out(REASSIGN_PARTITIONS, "--list") == "No partition reassignments found.\n"
    move = tmp_path / "topics.json"
    move.write_text(json.dumps({"version": 1, "topics": [{"topic": topic}]}))
    wanted = ("--topics-to-move-json-file", str(move), "--broker-list", broker_id)
    out = kafka.out(REASSIGN_PARTITIONS, *wanted, "--generate")
    now, proposed = (json.loads(line)["partitions"] for line in out.splitlines() if line.startswith("{"))
    assert [each["partition"] for each in now] == list(range(PARTITIONS))
    assert all(each["replicas"] == [int(broker_id)] and each["log_dirs"][0].startswith("/") for each in now)
    assert all(each["replicas"] == [int(broker_id)] and each["log_dirs"] == ["any"] for each in proposed)


@pytest.mark.needs(
    "AlterPartitionReassignments",
    "ListPartitionReassignments",
    "DescribeLogDirs",
    "DescribeConfigs",
    "IncrementalAlterConfigs",
)
def test_reassign_partitions_to_where_they_are(kafka: Tools, topic: str, broker_id: str, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    row = {"topic": topic, "partition": 0, "replicas": [int(broker_id)], "log_dirs": ["any"]}
    plan.write_text(json.dumps({"version": 1, "partitions": [row]}))
    executed = kafka.out(REASSIGN_PARTITIONS, "--reassignment-json-file", str(plan), "--execute")
    assert f"Successfully started partition reassignment for {topic}-0" in executed
    verified = kafka.out(REASSIGN_PARTITIONS, "--reassignment-json-file", str(plan), "--verify")
    assert f"Reassignment of partition {topic}-0 is completed." in verified
    assert f"Clearing broker-level throttles on broker {broker_id}" in verified
    assert f"Clearing topic-level throttles on topic {topic}" in verified


@pytest.mark.needs("DescribeProducers")
def test_transactions_describe_producers(kafka: Tools, broker: BrokerUnderTest, topic: str) -> None:
    Confluent().write(broker.address, topic, "none", [b"value"] * 60)
    out = kafka.out(TRANSACTIONS, "describe-producers", "--topic", topic, "--partition", "0")
    header, *rows = out.splitlines()
    assert header.split()[:4] == ["ProducerId", "ProducerEpoch", "LatestCoordinatorEpoch", "LastSequence"]
    assert all(row.split()[-1] == "None" for row in rows)
