"""A synchronous produce by a bare socket: its share of a round trip is two system calls."""

from __future__ import annotations

import socket
import struct
import time

from harness.hostile.requests import frame_of
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.codec import decode, encode
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

VERSION = 11


class SyncProduce:
    """One record of 1,000 bytes to partition 0 with acks=all, round trip after round trip."""

    def __init__(self, address: str, topic: str) -> None:
        batch = build_batch([Record(timestamp=time.time_ns() // 1_000_000, key=None, value=bytes(1000))])
        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=0, records=batch)])
        body = encode(ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[data]), VERSION)
        frame = frame_of(ApiKey.PRODUCE, VERSION, body, "latency")
        self._frame = struct.pack(">i", len(frame)) + frame
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb")

    def one(self) -> float:
        """Seconds of one round trip. Raises: AssertionError when the broker refuses."""
        started = time.perf_counter()
        self._socket.sendall(self._frame)
        answer = self._reader.read(struct.unpack(">i", self._reader.read(4))[0])
        took = time.perf_counter() - started
        response = decode(ProduceResponse, VERSION, answer[5:])
        assert response.responses[0].partition_responses[0].error_code == 0, response
        return took

    def close(self) -> None:
        self._reader.close()
        self._socket.close()
