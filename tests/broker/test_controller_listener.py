"""The controller's listener of a node: what is served there, and what brokers forward in an Envelope."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

import pytest

from kpybroker.handlers.forwarding import principal_bytes
from kpybroker.security.principal import Principal
from kpybroker.testing import Broker
from kpybroker.wire.api_keys import APIS, ApiKey
from kpybroker.wire.codec import decode, decode_prefix, encode
from kpybroker.wire.codes import Code
from kpybroker.wire.headers import RequestHeader, ResponseHeader
from kpybroker.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kpybroker.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from kpybroker.wire.messages.envelope import EnvelopeRequest, EnvelopeResponse
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse

from .conftest import Client

VERSION = 7
ALICE = principal_bytes(Principal("User", "alice"))
HERE = ipaddress.ip_address("127.0.0.1").packed


@pytest.fixture(scope="module")
def node() -> Iterator[Broker]:
    """A node that was told of its quorum, so that it opens the controller's listener."""
    listeners = "PLAINTEXT://localhost:0,CONTROLLER://localhost:0"
    with Broker({"controller.quorum.voters": "1@localhost:9093", "listeners": listeners}) as broker:
        yield broker


@pytest.fixture
def controller(node: Broker, connect_to: Callable[[int], Client]) -> Client:
    (point,) = node._running().controllers_listening
    return connect_to(point.port)


def create(name: str) -> CreateTopicsRequest:
    topic = CreatableTopic(name=name, num_partitions=1, replication_factor=1, assignments=[], configs=[])
    return CreateTopicsRequest(topics=[topic], timeout_ms=10_000)


def embedded(
    request: CreateTopicsRequest | MetadataRequest, version: int = VERSION, *, key: int | None = None, header: int = 2
) -> bytes:
    head = RequestHeader(
        request_api_key=request.API_KEY if key is None else key,
        request_api_version=version,
        correlation_id=77,
        client_id="admin",
    )
    return encode(head, header) + encode(request, version)


def test_what_is_served_there(controller: Client, node: Broker, connect_to: Callable[[int], Client]) -> None:
    request = ApiVersionsRequest(client_software_name="test", client_software_version="1")
    there = {each.api_key for each in controller.ask(request, ApiVersionsResponse, 4).api_keys}
    here = {each.api_key for each in connect_to(node.port).ask(request, ApiVersionsResponse, 4).api_keys}
    assert {ApiKey.ENVELOPE, ApiKey.BROKER_REGISTRATION, ApiKey.BROKER_HEARTBEAT} <= there - here
    assert {ApiKey.PRODUCE, ApiKey.METADATA, ApiKey.JOIN_GROUP} <= here - there
    assert ApiKey.CREATE_TOPICS in here & there


def test_an_envelope_is_opened(controller: Client, node: Broker, connect_to: Callable[[int], Client]) -> None:
    request = EnvelopeRequest(
        request_data=embedded(create("wrapped")), request_principal=ALICE, client_host_address=HERE
    )
    response = controller.ask(request, EnvelopeResponse, 0)
    assert response.error_code == Code.NONE
    data = response.response_data
    assert data is not None
    header, end = decode_prefix(ResponseHeader, APIS[ApiKey.CREATE_TOPICS].response_header_version(VERSION), data)
    (created,) = decode(CreateTopicsResponse, VERSION, data[end:]).topics
    assert (header.correlation_id, created.name, created.error_code) == (77, "wrapped", Code.NONE)
    wanted = MetadataRequest(topics=[MetadataRequestTopic(name="wrapped")], allow_auto_topic_creation=False)
    (topic,) = connect_to(node.port).ask(wanted, MetadataResponse, 12).topics
    assert topic.topic_id == created.topic_id
    again = controller.ask(request, EnvelopeResponse, 0)
    assert again.response_data is not None
    (refused,) = decode(CreateTopicsResponse, VERSION, again.response_data[end:]).topics
    assert refused.error_code == Code.TOPIC_ALREADY_EXISTS, "an error of the request is no error of the envelope"
    longer = EnvelopeRequest(
        request_data=request.request_data + b"\0", request_principal=ALICE, client_host_address=HERE
    )
    assert controller.ask(longer, EnvelopeResponse, 0).error_code == Code.NONE, "as Kafka, which reads no further"


GOOD = embedded(create("t"))


@pytest.mark.parametrize(
    ("data", "principal", "address", "error"),
    [
        pytest.param(GOOD, None, HERE, Code.PRINCIPAL_DESERIALIZATION_FAILURE, id="no principal"),
        pytest.param(GOOD, b"\0\1" + ALICE[2:], HERE, Code.PRINCIPAL_DESERIALIZATION_FAILURE, id="of a later version"),
        pytest.param(GOOD, ALICE[:-2], HERE, Code.PRINCIPAL_DESERIALIZATION_FAILURE, id="principal cut short"),
        pytest.param(GOOD, ALICE, b"\x7f\0\0", Code.INVALID_REQUEST, id="no address"),
        pytest.param(b"\0", ALICE, HERE, Code.UNSUPPORTED_VERSION, id="no header"),
        pytest.param(GOOD[:-1], ALICE, HERE, Code.UNSUPPORTED_VERSION, id="body cut short"),
        pytest.param(embedded(create("t"), key=999), ALICE, HERE, Code.UNSUPPORTED_VERSION, id="no such API"),
        pytest.param(
            embedded(MetadataRequest(topics=[]), 12), ALICE, HERE, Code.INVALID_REQUEST, id="not to be forwarded"
        ),
        pytest.param(
            embedded(create("t"), key=ApiKey.ENVELOPE), ALICE, HERE, Code.INVALID_REQUEST, id="envelope in envelope"
        ),
        pytest.param(b"\0\x13\0\x63" + GOOD[4:], ALICE, HERE, Code.UNSUPPORTED_VERSION, id="version of the future"),
    ],
)
def test_envelopes_that_are_refused(
    controller: Client, data: bytes, principal: bytes | None, address: bytes, error: Code
) -> None:
    request = EnvelopeRequest(request_data=data, request_principal=principal, client_host_address=address)
    response = controller.ask(request, EnvelopeResponse, 0)
    assert (Code(response.error_code), response.response_data) == (error, None)
    assert controller.ask(request, EnvelopeResponse, 0).error_code == error, "the connection goes on"
