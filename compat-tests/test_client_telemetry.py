"""Stock clients push their metrics (KIP-714), as they do by themselves wherever a broker offers it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from confluent_kafka import Producer
from harness.admin import create_topic
from harness.brokers import BrokerUnderTest, Kpybroker
from harness.java_tools import PRODUCER_PERFORMANCE, ToolHost
from harness.ports import free_ports
from harness.versions.world import World

from kpybroker.wire.api_keys import ApiKey

CLIENT_METRICS = 16
SAMPLE = re.compile(r"(?P<metric>\w+)\{(?P<labels>.*)\} (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="([^"]*)"')


class Shown:
    """The page that Prometheus reads."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/metrics"

    def of(self, client_id: str) -> dict[str, float]:
        """Values by metric, of one client; its labels are checked on the way."""
        with urlopen(self._url, timeout=20) as response:
            lines = response.read().decode().splitlines()
        values = {}
        for sample in filter(None, map(SAMPLE.fullmatch, lines)):
            labels = dict(LABEL.findall(sample["labels"]))
            if labels.get("client_id") == client_id:
                assert re.fullmatch(r"[A-Za-z0-9_-]{22}", labels["client_instance_id"])
                values[sample["metric"]] = float(sample["value"])
                values[labels["client_software_name"]] = 1.0
        return values


class Reporting:
    """A kpybroker that receives metrics, and asks every client for all of them, ten times a second."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        reporter = {
            "metric.reporters": "kpybroker.PrometheusReporter",
            "kpybroker.prometheus.listener": f"127.0.0.1:{port}",
        }
        self.broker = Kpybroker(folder, settings=reporter)
        self.shown = Shown(port)
        self.world = World(self.broker.address)

    def subscribe(self, name: str, **configs: str) -> None:
        changes = [
            {"name": key.replace("_", "."), "config_operation": 0, "value": text} for key, text in configs.items()
        ]
        resource = {"resource_type": CLIENT_METRICS, "resource_name": name, "configs": changes}
        response = self.world.raw(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=[resource], validate_only=False)
        assert [each.error_code for each in response.responses] == [0], response


@pytest.fixture(scope="module")
def reporting(folder: Path, request: pytest.FixtureRequest) -> Iterator[Reporting]:
    if request.config.getoption("--broker") != "kpybroker":
        pytest.skip("Apache Kafka has no receiver of its own: a plug-in would be needed")
    reporting = Reporting(folder / "reporting")
    reporting.broker.start()
    try:
        reporting.subscribe("all", metrics="*", interval_ms="100")
        yield reporting
    finally:
        reporting.world.close()
        reporting.broker.stop()


def test_not_advertised_without_a_receiver(broker: BrokerUnderTest) -> None:
    world = World(broker.address)
    answer = world.raw(ApiKey.API_VERSIONS, 3, client_software_name="compat", client_software_version="1")
    world.close()
    advertised = {each.api_key for each in answer.api_keys}
    assert advertised & {ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, ApiKey.PUSH_TELEMETRY} == set()


@pytest.mark.needs("IncrementalAlterConfigs")
def test_librdkafka_pushes(reporting: Reporting) -> None:
    create_topic(reporting.broker.address, "from-librdkafka", 1)
    producer = Producer({"bootstrap.servers": reporting.broker.address, "client.id": "librdkafka"})
    producer.produce("from-librdkafka", b"value")
    assert producer.flush(60) == 0
    expected = {"confluent-kafka-python", "org_apache_kafka_producer_record_queue_time_max"}

    def pushed() -> bool:
        producer.poll(0)
        return expected <= reporting.shown.of("librdkafka").keys()

    reporting.world.until(pushed)


@pytest.mark.needs("IncrementalAlterConfigs")
def test_the_java_producer_pushes_and_deltas_add_up(reporting: Reporting, tools: ToolHost) -> None:
    """A push every tenth of a second has some fifty records; whether the last ones are told is up to the client."""
    create_topic(reporting.broker.address, "from-java", 1)
    result = tools.run(
        PRODUCER_PERFORMANCE,
        *("--bootstrap-server", reporting.broker.address, "--topic", "from-java"),
        *("--num-records", "1500", "--record-size", "10", "--throughput", "500"),
        *("--command-property", "client.id=java"),
    )
    assert result.code == 0, result.err
    shown = reporting.shown.of("java")
    assert "apache-kafka-java" in shown
    assert 250 <= shown["org_apache_kafka_producer_record_send_total"] <= 1500
