"""A node that receives what clients push (KIP-714), and shows it to Prometheus."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from kpybroker.cluster.machines.decision import Caller
from kpybroker.endings import StartupFailed
from kpybroker.node import Node
from kpybroker.testing import Broker
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kpybroker.wire.messages.get_telemetry_subscriptions import (
    GetTelemetrySubscriptionsRequest,
    GetTelemetrySubscriptionsResponse,
)
from kpybroker.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from kpybroker.wire.messages.push_telemetry import PushTelemetryRequest, PushTelemetryResponse
from kpybroker.wire.records.compression import compress
from tests.metrics.pushed import gauge, metrics_data, total

if TYPE_CHECKING:
    from .conftest import Client

REPORTING = {"metric.reporters": "kpybroker.PrometheusReporter", "kpybroker.prometheus.listener": "localhost:0"}
CLIENT_METRICS = 16
NOBODY = bytes(16)


@pytest.fixture
def reporting() -> Iterator[Broker]:
    with Broker(REPORTING) as broker:
        yield broker


def subscribe(broker: Broker, name: str, configs: Mapping[str, str | None]) -> None:
    """Set or (None) delete configs of a subscription, as IncrementalAlterConfigs does."""
    changes = [AlterableConfig(name=key, config_operation=value is None, value=value) for key, value in configs.items()]
    resource = AlterConfigsResource(resource_type=CLIENT_METRICS, resource_name=name, configs=changes)

    async def alter(node: Node) -> int:
        assert node._cluster is not None
        request = IncrementalAlterConfigsRequest(resources=[resource], validate_only=False)
        response = await node._cluster.controller.incremental_alter_configs(request, Caller(api_version=1))
        return response.responses[0].error_code

    assert broker._call(alter) == 0


def advertised(client: Client) -> set[int]:
    request = ApiVersionsRequest(client_software_name="tests", client_software_version="1")
    return {each.api_key for each in client.ask(request, ApiVersionsResponse, 3).api_keys}


def ask(client: Client, client_instance_id: bytes = NOBODY) -> GetTelemetrySubscriptionsResponse:
    request = GetTelemetrySubscriptionsRequest(client_instance_id=client_instance_id)
    return client.ask(request, GetTelemetrySubscriptionsResponse, 0)


def push(client: Client, told: GetTelemetrySubscriptionsResponse, metrics: bytes, codec: int = 0) -> int:
    request = PushTelemetryRequest(
        client_instance_id=told.client_instance_id,
        subscription_id=told.subscription_id,
        terminating=False,
        compression_type=codec,
        metrics=metrics,
    )
    return client.ask(request, PushTelemetryResponse, 0).error_code


def page(broker: Broker, path: str = "/metrics", method: str = "GET", accept: str = "") -> tuple[int, str, str]:
    """Status, content type and body."""
    assert broker._node is not None
    assert broker._node.metrics_port is not None
    connection = http.client.HTTPConnection("localhost", broker._node.metrics_port, timeout=20)
    try:
        connection.request(method, path, headers={"Accept": accept} if accept else {})
        response = connection.getresponse()
        return response.status, response.headers["content-type"], response.read().decode()
    finally:
        connection.close()


def shown(broker: Broker) -> dict[str, float]:
    """Value by metric, of all but the broker's own."""
    families = text_string_to_metric_families(page(broker)[2])
    return {
        sample.name: sample.value
        for family in families
        for sample in family.samples
        if not sample.name.startswith(("kafka_server_", "kpybroker_"))
    }


def test_advertised_only_where_there_is_a_receiver(
    broker: Broker, reporting: Broker, connect_to: Callable[[int], Client]
) -> None:
    telemetry = {ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, ApiKey.PUSH_TELEMETRY}
    assert advertised(connect_to(broker.port)) & telemetry == set()
    assert advertised(connect_to(reporting.port)) & telemetry == telemetry


def test_a_receiver_while_it_runs(broker: Broker, connect_to: Callable[[int], Client]) -> None:
    """metric.reporters can be changed on a running broker, as Kafka's can."""

    async def report(node: Node) -> None:
        parts = node._broker
        assert parts is not None
        static = parts.live.current
        parts.live.update(type(static)({**static.static, **REPORTING}))
        while parts.telemetry.receiver is None:
            await trio.lowlevel.checkpoint()

    assert ApiKey.PUSH_TELEMETRY not in advertised(connect_to(broker.port))
    broker._call(report)
    assert ApiKey.PUSH_TELEMETRY in advertised(connect_to(broker.port))
    assert page(broker)[0] == 200


def test_answered_without_a_receiver_too(broker: Broker, client: Client) -> None:
    told = ask(client)
    assert (told.error_code, told.push_interval_ms, told.requested_metrics) == (0, 300_000, [])
    assert push(client, told, b"what nobody looks at") == 0
    assert ask(client, told.client_instance_id).error_code == Code.THROTTLING_QUOTA_EXCEEDED
    assert broker._node is not None
    assert broker._node.metrics_port is None


def test_from_a_subscription_to_the_page(reporting: Broker, connect_to: Callable[[int], Client]) -> None:
    client = connect_to(reporting.port)
    advertised(client)  # tells the broker what the client is
    subscribe(reporting, "all", {"metrics": "*", "interval.ms": "100", "match": "client_software_name=tests"})
    subscribe(reporting, "others", {"metrics": "x.", "match": "client_id=somebody"})
    told = ask(client)
    assert told.error_code == 0
    assert (told.requested_metrics, told.push_interval_ms) == (["*"], 100)
    assert told.accepted_compression_types == [4, 3, 1, 2]
    assert (told.telemetry_max_bytes, told.delta_temporality) == (1_048_576, True)
    data = metrics_data(gauge("org.apache.kafka.producer.rate", 1.5), total("requests", 2, node_id="1"))
    assert push(client, told, compress("zstd", data), 4) == 0
    assert shown(reporting) == {"org_apache_kafka_producer_rate": 1.5, "requests_total": 2}
    assert 'requests_total{client_id="test",client_instance_id="' in page(reporting)[2]

    subscribe(reporting, "all", {"metrics": None, "interval.ms": None, "match": None})
    assert push(client, told, data) == Code.UNKNOWN_SUBSCRIPTION_ID
    again = ask(client, told.client_instance_id)
    assert (again.client_instance_id, again.requested_metrics) == (told.client_instance_id, [])
    assert again.subscription_id != told.subscription_id


def test_subscriptions_outlive_a_restart(reporting: Broker, connect_to: Callable[[int], Client]) -> None:
    subscribe(reporting, "s", {"metrics": "a.,b."})
    reporting.restart()
    assert sorted(ask(connect_to(reporting.port)).requested_metrics) == ["a.", "b."]


def test_a_client_instance_ends_with_its_connection(reporting: Broker, connect_to: Callable[[int], Client]) -> None:
    leaving, staying = connect_to(reporting.port), connect_to(reporting.port)
    told = ask(leaving)
    assert ask(staying, told.client_instance_id).error_code == Code.THROTTLING_QUOTA_EXCEEDED
    leaving.socket.shutdown(socket.SHUT_WR)
    assert leaving.receive_frame() == b"", "the broker has let go of it"
    assert ask(staying, told.client_instance_id).error_code == 0


def test_what_is_not_readable(reporting: Broker, connect_to: Callable[[int], Client]) -> None:
    for codec, data in ((0, b"\xff\xff"), (4, b"no zstd"), (1, compress("gzip", bytes(1_048_577)))):
        client = connect_to(reporting.port)
        assert push(client, ask(client), data, codec) == Code.INVALID_RECORD
    assert shown(reporting) == {}
    assert "kafka_server_client_metrics_plugin_error_count_total 3.0" in page(reporting)[2]


def test_pages(reporting: Broker) -> None:
    status, kind, body = page(reporting)
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert "kafka_server_client_metrics_instance_count 0.0" in body
    assert page(reporting, accept="application/openmetrics-text; version=1.0.0")[1].startswith(
        "application/openmetrics"
    )
    assert page(reporting, method="HEAD")[::2] == (200, "")
    assert page(reporting, "/metrics?x=y")[0] == 200
    assert page(reporting, "/")[0] == 404
    assert page(reporting, method="POST")[0] == 405


@pytest.mark.parametrize("sent", [b"\x00\x00\x00\x01x\r\n\r\n", b"GET /" + b"x" * 100_000, b"GET / HTTP/1.1\r\n\r\n"])
def test_not_http(reporting: Broker, sent: bytes) -> None:
    assert reporting._node is not None
    with socket.create_connection(("localhost", reporting._node.metrics_port), timeout=20) as peer:
        peer.sendall(sent)
        answer = peer.recv(1000)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
    assert page(reporting)[0] == 200


def test_an_address_that_cannot_be_had() -> None:
    with socket.create_server(("localhost", 0)) as taken:
        address = f"localhost:{taken.getsockname()[1]}"
        with pytest.raises(StartupFailed, match=f"cannot listen on {address} for Prometheus: Address already in use"):
            Broker(REPORTING | {"kpybroker.prometheus.listener": address}).start()


def test_what_the_reporter_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "kpybroker.metrics.prometheus", None)
    with pytest.raises(StartupFailed, match=r"kpybroker\.PrometheusReporter needs .*: pip install"):
        Broker(REPORTING).start()
