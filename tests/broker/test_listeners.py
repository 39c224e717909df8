"""Listeners: several at once, what each of them tells its clients, IPv6, limits."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from kpybroker.testing import Broker
from kpybroker.wire.codec import decode
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataResponse

INSIDE_AND_OUTSIDE = {
    "listeners": "INSIDE://localhost:0,OUTSIDE://127.0.0.1:0,CONTROLLER://localhost:9093",
    "advertised.listeners": "INSIDE://localhost:0,OUTSIDE://kafka.example:1234,CONTROLLER://localhost:9093",
    "listener.security.protocol.map": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "INSIDE",
}


def told(client: Any) -> list[tuple[str, int]]:
    response = client.ask(MetadataRequest(topics=[]), MetadataResponse, 12)
    return [(node.host, node.port) for node in response.brokers]


def test_each_listener_tells_its_own_address(connect_to: Callable[[int], Any]) -> None:
    with Broker(INSIDE_AND_OUTSIDE) as broker:
        inside, outside = broker.ports
        assert told(connect_to(inside)) == [("localhost", inside)]
        assert told(connect_to(outside)) == [("kafka.example", 1234)]


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_ipv6(connect_to: Callable[[int], Any]) -> None:
    listeners = "PLAINTEXT://[::1]:0,CONTROLLER://localhost:9093"
    with Broker({"listeners": listeners, "advertised.listeners": listeners}) as broker:
        with socket.create_connection(("::1", broker.port), timeout=10) as peer:
            request = struct.pack(">hhihi", 3, 1, 7, -1, 0)
            peer.sendall(struct.pack(">i", len(request)) + request)
            size = struct.unpack(">i", peer.recv(4, socket.MSG_WAITALL))[0]
            response = decode(MetadataResponse, 1, peer.recv(size, socket.MSG_WAITALL)[4:])
        assert [(node.host, node.port) for node in response.brokers] == [("::1", broker.port)]


def test_a_request_beyond_the_limit_closes_its_connection(
    connect_to: Callable[[int], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with Broker({"socket.request.max.bytes": 1000}) as broker, caplog.at_level(logging.WARNING):
        client = connect_to(broker.port)
        assert told(client)
        client.socket.sendall(struct.pack(">i", 1001))
        assert client.receive_frame() == b""
        assert "frame of 1001 bytes (limit 1000)" in caplog.text


def test_idle_connections_are_closed(connect_to: Callable[[int], Any]) -> None:
    with Broker({"connections.max.idle.ms": 300}) as broker:
        client = connect_to(broker.port)
        assert told(client)
        assert client.receive_frame() == b""
