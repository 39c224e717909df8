"""What any request meets first: versions that are served or not, malformed bytes, bugs."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest

from kpybroker.handlers.broker import metadata
from kpybroker.testing import Broker
from kpybroker.wire.api_keys import APIS
from kpybroker.wire.codec import encode
from kpybroker.wire.codes import Code
from kpybroker.wire.headers import RequestHeader
from kpybroker.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataResponse

Connect = Callable[[], Any]

API_VERSIONS = ApiVersionsRequest(client_software_name="test", client_software_version="1")


def header(key: int, version: int, header_version: int = 1) -> bytes:
    request = RequestHeader(request_api_key=key, request_api_version=version, correlation_id=7, client_id="test")
    return encode(request, header_version)


@pytest.mark.parametrize("version", range(5))
def test_api_versions_lists_what_is_served(client: Any, version: int) -> None:
    response = client.ask(API_VERSIONS, ApiVersionsResponse, version)
    assert response.error_code == Code.NONE
    listed = {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
    for key, versions in listed.items():
        assert versions == APIS[key].advertised_broker
    assert listed[0] == (0, 13)
    if version >= 3:
        levels = {feature.name: feature.max_version_level for feature in response.finalized_features}
        assert levels["metadata.version"] == 30
        supported = {feature.name for feature in response.supported_features}
        assert ("group.version" in supported) == (version >= 4)


@pytest.mark.parametrize("name", ["", "-x", "a b", "é"])
def test_a_client_must_have_a_proper_name(client: Any, name: str) -> None:
    request = ApiVersionsRequest(client_software_name=name, client_software_version="1")
    assert client.ask(request, ApiVersionsResponse, 3).error_code == Code.INVALID_REQUEST


@pytest.mark.parametrize("version", [5, 99, -1])
def test_an_unknown_version_of_api_versions_is_told_the_known_ones(client: Any, version: int) -> None:
    client.correlation_id = 7
    client.send_frame(header(18, version, 2 if version > 2 else 1))
    response = client.receive(ApiVersionsResponse, 0)
    assert response.error_code == Code.UNSUPPORTED_VERSION
    assert [(api.api_key, api.min_version, api.max_version) for api in response.api_keys] == [(18, 0, 4)]
    assert client.ask(API_VERSIONS, ApiVersionsResponse, 4).error_code == Code.NONE


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="an empty frame"),
        pytest.param(b"\0\x03\0", id="half a header"),
        pytest.param(header(3, 14), id="a version that is not served"),
        pytest.param(header(0, 2), id="advertised, but not served"),
        pytest.param(header(999, 0), id="no such API"),
        pytest.param(header(52, 0), id="an API of the controller's listener"),
        pytest.param(header(3, 12, 2), id="no body"),
        pytest.param(header(3, 12, 2) + b"\xff\xff\xff\xff\x07", id="an array of billions"),
        pytest.param(b"\0\x03\0\x01\0\0\0\x01\x7f\xff", id="a client id that is cut short"),
    ],
)
def test_what_is_no_request_closes_its_connection_and_no_other(
    connect: Connect, caplog: pytest.LogCaptureFixture, frame: bytes
) -> None:
    bad, good = connect(), connect()
    bad.send_frame(frame)
    assert bad.receive_frame() == b""
    lines = [record.message for record in caplog.records if record.name == "kpybroker.server"]
    assert len(lines) == 1
    assert f"127.0.0.1:{bad.socket.getsockname()[1]}" in lines[0] or "::1" in lines[0]
    assert good.ask(API_VERSIONS, ApiVersionsResponse, 4).error_code == Code.NONE


def test_a_bug_in_a_handler_is_answered_and_logged(
    client: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(ctx: object, request: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(metadata, "handle", broken)
    response = client.ask(MetadataRequest(topics=None), MetadataResponse, 13)
    assert response.error_code == Code.UNKNOWN_SERVER_ERROR
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    assert client.ask(MetadataRequest(topics=None), MetadataResponse, 13).error_code == Code.NONE


def test_pipelined_requests_are_answered_in_order(client: Any) -> None:
    for version in (0, 1, 2):
        client.send(API_VERSIONS, version)
    for correlation_id, version in enumerate((0, 1, 2), 1):
        client.correlation_id = correlation_id
        assert client.receive(ApiVersionsResponse, version).api_keys


def test_a_peer_that_comes_and_goes_leaves_nothing(
    broker: Broker, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for data in (b"", b"\0", b"\0\0\0\x64abc"):
            with socket.create_connection(("localhost", broker.port)) as peer:
                peer.sendall(data)
        assert client.ask(API_VERSIONS, ApiVersionsResponse, 4).error_code == Code.NONE
    assert [record for record in caplog.records if record.name.startswith("kpybroker")] == []


def test_the_request_log_has_a_line_for_each_request(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="kafka.request.logger"):
        client.ask(API_VERSIONS, ApiVersionsResponse, 4)
        client.ask(MetadataRequest(topics=[]), MetadataResponse, 12)
    client.ask(API_VERSIONS, ApiVersionsResponse, 4)
    texts = [record.getMessage() for record in caplog.records if record.name == "kafka.request.logger"]
    assert [text.partition("{")[0] for text in texts] == ["Completed request:"] * 2
    first, second = (json.loads(text.removeprefix("Completed request:")) for text in texts)
    assert first["requestHeader"] == {
        "requestApiKey": 18,
        "requestApiVersion": 4,
        "correlationId": 1,
        "clientId": "test",
        "requestApiKeyName": "API_VERSIONS",
    }
    assert first["clientInformation"] == second["clientInformation"] == {"softwareName": "test", "softwareVersion": "1"}
    assert second["requestHeader"]["requestApiKeyName"] == "METADATA"
    assert second["listener"] == "PLAINTEXT"
    assert second["connection"].endswith(f":{client.socket.getsockname()[1]}")
