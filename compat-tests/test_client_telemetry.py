"""A stock client pushes its metrics to a broker that has a receiver for them (KIP-714)."""

from __future__ import annotations

import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from harness.brokers import Kpybroker
from harness.ports import free_ports
from harness.watch import until
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource


@pytest.fixture
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Kpybroker, str]]:
    """A broker with a receiver, and where the receiver shows what it got."""
    if request.config.getoption("--broker") != "kpybroker":
        pytest.skip("Apache Kafka's receivers are Java classes that somebody has to write")
    (port,) = free_ports(1)
    listener = f"127.0.0.1:{port}"
    settings = {"metric.reporters": "kpybroker.PrometheusReporter", "kpybroker.prometheus.listener": listener}
    broker = Kpybroker(tmp_path, settings=settings)
    broker.start()
    yield broker, f"http://{listener}/metrics"
    broker.stop()


def page(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


@pytest.fixture
def producer(receiver: tuple[Kpybroker, str]) -> Producer:
    """A producer that has written something; by default it pushes what it is asked for."""
    producer = Producer({"bootstrap.servers": receiver[0].address})
    producer.produce(f"telemetry-{uuid.uuid4().hex[:8]}", b"value")
    assert producer.flush(60) == 0
    return producer


@pytest.mark.usefixtures("producer")
def test_a_client_asks_what_it_should_push(receiver: tuple[Kpybroker, str]) -> None:
    until(lambda: page(receiver[1]), lambda text: "kafka_server_client_metrics_instance_count 1.0" in text)


@pytest.mark.needs("IncrementalAlterConfigs")
def test_a_client_pushes_its_metrics(receiver: tuple[Kpybroker, str], request: pytest.FixtureRequest) -> None:
    broker, shown = receiver
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    wanted = {"metrics": "org.apache.kafka.producer.", "interval.ms": "1000"}
    try:
        resource = ConfigResource("client_metrics", "producers", wanted)
        admin.alter_configs([resource], raise_on_unknown=False)
    finally:
        admin.close()
    request.getfixturevalue("producer")
    until(lambda: page(shown), lambda text: "org_apache_kafka_producer_" in text)
