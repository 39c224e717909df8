"""A client for measuring a broker's latency: blocking sockets, and frames that are built before the clock starts.

Its share of a round trip is two system calls and a few microseconds of Python, so what is measured is the broker's.
"""

from __future__ import annotations

import socket
import struct
import time
import uuid
from dataclasses import dataclass

PRODUCE, FETCH = 0, 1
PRODUCE_VERSION, FETCH_VERSION = 11, 11
"""Produce with names in the flexible form, as Java's client sends before it knows topic ids; Fetch likewise by name."""

CASTAGNOLI = 0x82F63B78


def crc32c(data: bytes) -> int:
    """CRC-32C, bit by bit: for the one batch that is built."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (CASTAGNOLI if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def unsigned_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value: int) -> bytes:
    return unsigned_varint((value << 1) ^ (value >> 63))


def one_record_batch(value: bytes) -> bytes:
    """A record batch (magic 2, not compressed, no producer id) with one record without a key."""
    record = b"\x00" + varint(0) + varint(0) + varint(-1) + varint(len(value)) + value + varint(0)
    record = varint(len(record)) + record
    now_ms = time.time_ns() // 1_000_000
    checked = struct.pack(">hiqqqhii", 0, 0, now_ms, now_ms, -1, -1, -1, 1) + record
    body = struct.pack(">ibI", -1, 2, crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(body)) + body


def framed(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


def compact(data: bytes) -> bytes:
    """A compact string or bytes field: its length plus one, and itself."""
    return unsigned_varint(len(data) + 1) + data


def produce_frame(topic: str, batch: bytes, acks: int) -> bytes:
    """A Produce request of one batch for partition 0."""
    header = struct.pack(">hhih", PRODUCE, PRODUCE_VERSION, 1, 5) + b"bench" + b"\x00"
    partition = struct.pack(">i", 0) + compact(batch) + b"\x00"
    topics = b"\x02" + compact(topic.encode()) + b"\x02" + partition + b"\x00"
    return framed(header + b"\x00" + struct.pack(">hi", acks, 30_000) + topics + b"\x00")


class FetchFrame:
    """A Fetch request for partition 0 without a session; its offset is set in place."""

    def __init__(self, topic: str, max_wait_ms: int) -> None:
        name = topic.encode()
        header = struct.pack(">hhih", FETCH, FETCH_VERSION, 1, 5) + b"bench"
        fixed = struct.pack(">iiiibii", -1, max_wait_ms, 1, 1 << 20, 0, 0, -1)
        topics = struct.pack(">ih", 1, len(name)) + name + struct.pack(">i", 1)
        before = header + fixed + topics + struct.pack(">ii", 0, -1)
        after = struct.pack(">qi", -1, 1 << 20) + struct.pack(">i", 0) + struct.pack(">h", 0)
        self.frame = bytearray(framed(before + bytes(8) + after))
        self._at = 4 + len(before)

    def at(self, offset: int) -> bytearray:
        struct.pack_into(">q", self.frame, self._at, offset)
        return self.frame


class Connection:
    """One blocking connection."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, frame: bytes | bytearray) -> None:
        self._socket.sendall(frame)

    def receive(self) -> bytes:
        """One response, without its length. Raises: ConnectionError."""
        data = self._socket.recv(65536)
        while len(data) < 4 or len(data) < 4 + struct.unpack_from(">i", data)[0]:
            more = self._socket.recv(65536)
            if not more:
                raise ConnectionError("the broker has closed the connection")
            data += more
        return data[4:]

    def close(self) -> None:
        self._socket.close()


class ProduceLatency:
    """Synchronous produce of one record, round trip after round trip."""

    def __init__(self, address: str, topic: str, *, acks: int, value_bytes: int = 1000) -> None:
        self._connection = Connection(address)
        self._frame = produce_frame(topic, one_record_batch(b"v" * value_bytes), acks)
        topic_prefix = 5 + len(unsigned_varint(len(topic) + 1)) + 1 + len(topic) + 1
        self._error_at = topic_prefix + 4  # correlation id, tags, array, name, array, partition index; then the error
        self.one()

    def one(self) -> float:
        """Seconds of one round trip. Raises: AssertionError when the broker refuses."""
        started = time.perf_counter()
        self._connection.send(self._frame)
        answer = self._connection.receive()
        took = time.perf_counter() - started
        (error,) = struct.unpack_from(">h", answer, self._error_at)
        assert error == 0, f"Produce answered error {error}"
        return took

    def close(self) -> None:
        self._connection.close()


class EndToEndLatency:
    """From sending a record to having it from a Fetch that has been waiting for it on another connection."""

    def __init__(self, address: str, topic: str, *, value_bytes: int = 1000) -> None:
        """`topic` must be empty, and led by the broker."""
        self._offset = 0
        self._consumer = Connection(address)
        self._producer = Connection(address)
        self._produce = produce_frame(topic, one_record_batch(b"v" * value_bytes), 1)
        self._fetch = FetchFrame(topic, max_wait_ms=10_000)

    def one(self, settle_s: float) -> float:
        """Seconds from the record's sending to its arrival; the Fetch has waited for `settle_s` when it is sent."""
        self._consumer.send(self._fetch.at(self._offset))
        time.sleep(settle_s)
        started = time.perf_counter()
        self._producer.send(self._produce)
        answer = self._consumer.receive()
        took = time.perf_counter() - started
        self._producer.receive()
        assert len(answer) > 1000, "the Fetch came back without the record"
        self._offset += 1
        return took

    def close(self) -> None:
        self._consumer.close()
        self._producer.close()


@dataclass(frozen=True)
class Percentiles:
    """Of a set of times, in milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: list[float]) -> Percentiles:
        ordered = sorted(seconds)
        return cls(ordered[len(ordered) // 2] * 1000, ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000)


def new_name(what: str) -> str:
    return f"bench-{what}-{uuid.uuid4().hex[:8]}"
