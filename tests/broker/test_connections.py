"""Limits on connections, with sockets."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from kpybroker.server import listener
from kpybroker.testing import Broker
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

LIMIT_S = 20
ALIVE = ApiVersionsRequest(client_software_name="test", client_software_version="1")


def test_too_many_from_one_address(connect_to: Callable[[int], Any]) -> None:
    with Broker({"max.connections.per.ip": 2, "listeners": "PLAINTEXT://127.0.0.1:0,CONTROLLER://:0"}) as broker:
        first, second, third = (connect_to(broker.port) for _ in range(3))
        for client in (first, second):
            assert client.ask(ALIVE, ApiVersionsResponse, 4).error_code == Code.NONE
        assert third.receive_frame() == b""
        first.close()
        deadline = time.monotonic() + 20
        while True:
            again = connect_to(broker.port)
            try:
                again.send(ALIVE, 4)
                if again.receive_frame():
                    break
            except ConnectionError:
                pass
            assert time.monotonic() < deadline


def test_more_than_the_node_has_places_for_wait(connect_to: Callable[[int], Any]) -> None:
    with Broker({"max.connections": 1}) as broker:
        first, second = connect_to(broker.port), connect_to(broker.port)
        assert first.ask(ALIVE, ApiVersionsResponse, 4).error_code == Code.NONE
        second.send(ALIVE, 4)
        second.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            second.socket.recv(1)
        first.close()
        second.socket.settimeout(20)
        assert second.receive(ApiVersionsResponse, 4).error_code == Code.NONE


def test_connections_leave_file_descriptors_to_the_logs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, connect_to: Callable[[int], Any]
) -> None:
    """The listener rests, says so once, and goes on when there is room again."""
    used = os.open(os.devnull, os.O_RDONLY)
    os.close(used)
    monkeypatch.setattr(listener, "_descriptor_limit", lambda: used + 60 + listener.DESCRIPTORS_KEPT)
    with Broker() as broker:
        flood = [socket.create_connection(("localhost", broker.port)) for _ in range(45)]
        closed = 0
        for sock in flood:
            sock.settimeout(5)
            sock.sendall(bytes.fromhex("0000000a" + "00120000" + "00000001" + "ffff"))
            with contextlib.suppress(OSError):
                closed += sock.recv(1) == b""
        for sock in flood:
            sock.close()
        assert closed or "cannot accept" in caplog.text
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(ConnectionError):
                client = connect_to(broker.port)
                client.send(ALIVE, 4)
                if client.receive_frame():
                    break
            assert time.monotonic() < deadline
    assert caplog.text.count("cannot accept") == 1


def test_a_peer_that_takes_no_answer_is_reset(connect_to: Callable[[int], Any]) -> None:
    """Not only closed: then the kernel would keep the connection, and what it holds for the peer, until it reads on."""
    with Broker() as broker:
        broker.create_topic("t")
        client = connect_to(broker.port)
        for _ in range(20):
            records = build_batch([Record(timestamp=0, value=bytes(900_000))])
            data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=records)])
            client.ask(ProduceRequest(acks=1, timeout_ms=1000, topic_data=[data]), ProduceResponse, 9)
        broker._settings["connections.max.idle.ms"] = "300"  # not before: a busy machine may pause for longer than that
        broker.restart()
        client = connect_to(broker.port)
        partition = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=2**30)
        topic = FetchTopic(topic="t", partitions=[partition])
        request = FetchRequest(max_wait_ms=0, min_bytes=1, max_bytes=2**30, topics=[topic], forgotten_topics_data=[])
        client.send(request, 11)
        poll = select.poll()
        poll.register(client.socket, 0)  # errors and hang-ups are told all the same
        ((_, events),) = poll.poll(LIMIT_S * 1000)
        assert events & select.POLLHUP
