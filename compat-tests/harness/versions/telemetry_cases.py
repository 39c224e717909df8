"""Client telemetry (KIP-714) of a broker without subscriptions and without a receiver, which answers all the same.

Each conversation has a connection and client instances of its own, as a client has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.versions.world import CLOSED, Answer, Wire, World
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.json_form import to_json
from kpybroker.wire.records.compression import compress

ZERO, ONE = bytes(16), bytes(15) + b"\x01"
CLIENT_METRICS = 16
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4


def _id(number: int) -> bytes:
    return bytes.fromhex("7140000000004000a000") + number.to_bytes(6, "big")


class _Client:
    def __init__(self, wire: Wire, version: int) -> None:
        self._wire = wire
        self._version = version
        self.subscription_id = 0
        self.answers: list[Answer] = []

    def _ask(self, api: ApiKey, **request: Any) -> Any:
        response = self._wire.ask(api, self._version, request)
        self.answers.append(CLOSED if response is None else to_json(response, self._version))
        return response

    def get(self, client_instance_id: bytes) -> None:
        response = self._ask(ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, client_instance_id=client_instance_id)
        if response.error_code == 0:
            self.subscription_id = response.subscription_id
        if client_instance_id == ZERO:  # the broker has made an id, and the subscription's goes with it
            self.answers[-1] |= {"clientInstanceId": "<id>", "subscriptionId": "<id>"}

    def push(self, client_instance_id: bytes, metrics: bytes = b"", **other: Any) -> None:
        request = {"subscription_id": self.subscription_id, "compression_type": 0, "terminating": False} | other
        self._ask(ApiKey.PUSH_TELEMETRY, client_instance_id=client_instance_id, metrics=metrics, **request)


def _without_subscriptions(world: World) -> None:
    """Other cases may have left some behind."""
    for each in world.raw(ApiKey.LIST_CONFIG_RESOURCES, 1, resource_types=[CLIENT_METRICS]).config_resources:
        resource = {"resource_type": CLIENT_METRICS, "resource_name": each.resource_name, "configs": []}
        world.raw(ApiKey.ALTER_CONFIGS, 2, resources=[resource], validate_only=False)

    def none_is_left() -> bool:
        told = world.raw(ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, 0, client_instance_id=ZERO)
        return (told.requested_metrics, told.push_interval_ms) == ([], 300_000)

    world.until(none_is_left)


@contextmanager
def _client(world: World, version: int) -> Iterator[_Client]:
    _without_subscriptions(world)
    wire = Wire(world.address)
    try:
        yield _Client(wire, version)
    finally:
        wire.close()


def subscriptions(world: World, version: int) -> Answer:
    with _client(world, version) as client:
        client.get(ZERO)
        client.get(ZERO)
        for number in (1, 1, 2):
            client.get(_id(number))
        client.get(ONE)
        client.get(b"\xff" * 16)
        client.push(_id(3), subscription_id=5)
        client.get(_id(3))  # told to ask: no throttling
        client.get(_id(3))
    return client.answers


def pushes(world: World, version: int) -> Answer:
    with _client(world, version) as client:
        for reserved in (ZERO, ONE):
            client.push(reserved)
        client.get(_id(10))
        client.push(_id(10))
        client.push(_id(10))  # within the interval
        client.push(_id(10), terminating=True)
        client.push(_id(10))
        client.push(_id(10), terminating=True)
        client.get(_id(10))
    return client.answers


def pushes_refused(world: World, version: int) -> Answer:
    largest = 1_048_576
    wrong: list[tuple[bytes, dict[str, Any]]] = [
        (b"m", {"subscription_id": 1}),
        (b"m", {"compression_type": 5}),
        (b"m", {"compression_type": -1}),
        (bytes(largest), {}),
        (bytes(largest + 1), {}),
        (b"not compressed", {"compression_type": ZSTD}),
        (b"not compressed", {"compression_type": GZIP}),
        (b"not compressed", {"compression_type": LZ4}),
        (b"\xff\xff not compressed", {"compression_type": SNAPPY}),
        (compress("zstd", bytes(largest)), {"compression_type": ZSTD}),
        (compress("zstd", bytes(largest + 1)), {"compression_type": ZSTD}),
        (compress("gzip", bytes(100 * largest)), {"compression_type": GZIP}),
        (compress("lz4", b"m"), {"compression_type": LZ4}),
        (compress("snappy", b"m"), {"compression_type": SNAPPY}),
        (b"", {"compression_type": ZSTD}),
    ]
    answers = []
    for number, (metrics, other) in enumerate(wrong, 20):
        with _client(world, version) as client:
            client.get(_id(number))
            client.push(_id(number), metrics, **other)
            client.push(_id(number), metrics, **other)
            client.get(_id(number))
            answers += client.answers
    return answers
