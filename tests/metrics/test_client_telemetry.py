"""Who may ask and push when (KIP-714), against what Apache Kafka's own class answers to the same requests.

kafka_telemetry.jsonl.gz has 64 runs of requests, changes of subscriptions, steps of time and ends of connections, made
by chance, each with the answer that Kafka 4.3.1's ClientMetricsManager gave (telemetry.max.bytes 1000, no receiver).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from kpybroker.cluster.client_metrics import subscription_of
from kpybroker.ids import Ids
from kpybroker.metrics import client_telemetry
from kpybroker.metrics.client_telemetry import Asker, ClientTelemetry, Push, UnreadableMetrics
from kpybroker.metrics.subscriptions import Subscription
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.records.compression import compress

ID = bytes(range(16))
INTERVAL = Subscription(metrics=("a.",), interval_ms=1000, match={})


class Connections:
    """The ends of connections, by their numbers."""

    def __init__(self) -> None:
        self.calls: dict[int, list[Callable[[], None]]] = {}

    def asker(self, number: int = 1, client_id: str | None = "app", name: str = "java", version: str = "1") -> Asker:
        return Asker(
            client_id=client_id,
            software_name=name,
            software_version=version,
            host=f"10.0.0.{number}",
            port=40000 + number,
            connection=number,
            at_end=self.calls.setdefault(number, []).append,
        )

    def end(self, number: int) -> None:
        for call in self.calls.pop(number, []):
            call()


def made(bytes_max: int = 1000) -> ClientTelemetry:
    return ClientTelemetry(Ids(seed=1), telemetry_bytes_max=bytes_max)


async def push(telemetry: ClientTelemetry, asker: Asker, now_s: float, **given: Any) -> Code:
    """The outcome of a push that is right but for what is given."""
    what = {"subscription_id": None, "compression_type": 0, "terminating": False, "metrics": b"m", "id": ID} | given
    client_instance_id = what.pop("id")
    if what["subscription_id"] is None:
        known = telemetry._instances.get(client_instance_id)
        what["subscription_id"] = 0 if known is None else known.requested.subscription_id
    try:
        await telemetry.push(client_instance_id, asker, now_s, **what)
    except Refused as refused:
        return refused.code
    return Code.NONE


def ask(telemetry: ClientTelemetry, asker: Asker, now_s: float, client_instance_id: bytes = ID) -> Code:
    try:
        telemetry.ask(client_instance_id, asker, now_s)
    except Refused as refused:
        return refused.code
    return Code.NONE


class Replay:
    """The recorded runs, carried out here."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.telemetry, self.connections, self.now_ms = made(), Connections(), 0
        self.told: dict[str, int] = {}

    async def do(self, command: list[str]) -> list[str]:
        match command:
            case ["reset"]:
                self.reset()
            case ["advance", ms]:
                self.now_ms += int(ms)
            case ["drop", connection]:
                self.connections.end(int(connection))
            case ["sub", name, *configs]:
                given = {key: value for key, _, value in (each.partition("=") for each in configs)}
                self.telemetry.subscribe(name, subscription_of(given) if given else None)
            case ["get", raw, *who]:
                return self.get(raw, self.asker(*who))
            case ["push", raw, connection, client_id, name, version, subscription, codec, terminating, body]:
                code = await push(
                    self.telemetry,
                    self.asker(connection, client_id, name, version),
                    self.now_ms / 1000,
                    id=bytes.fromhex(raw),
                    subscription_id=self.told.get(raw, 0) if subscription == "ok" else int(subscription),
                    compression_type=int(codec),
                    terminating=terminating == "1",
                    metrics=bytes.fromhex(body),
                )
                return [str(int(code))]
        return []

    def asker(self, connection: str, client_id: str, name: str, version: str) -> Asker:
        return self.connections.asker(int(connection), None if client_id == "-" else client_id, name, version)

    def get(self, raw: str, asker: Asker) -> list[str]:
        try:
            instance = self.telemetry.ask(bytes.fromhex(raw), asker, self.now_ms / 1000)
        except Refused as refused:
            return [str(int(refused.code)), "0", "0", ""]
        wanted = instance.requested
        self.told[raw] = wanted.subscription_id
        return ["0", str(wanted.subscription_id), str(wanted.interval_ms), ",".join(wanted.metrics)]


async def replay() -> int:
    with gzip.open(Path(__file__).with_name("kafka_telemetry.jsonl.gz"), "rt", encoding="utf-8") as lines:
        recorded = [json.loads(line) for line in lines]
    node = Replay()
    for number, (command, expected) in enumerate(recorded, 1):
        assert await node.do(command) == expected, (number, command)
    return sum(bool(expected) for _, expected in recorded)


def test_as_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_telemetry, "EXPIRY_MS_MIN", 10**9)  # Kafka's timers ran by another clock
    assert trio.run(replay) > 1500


async def first_push_comes_when_it_likes() -> None:
    telemetry, asker = made(), Connections().asker()
    telemetry.subscribe("s", INTERVAL)
    assert ask(telemetry, asker, 0.0) is Code.NONE
    assert await push(telemetry, asker, 0.5) is Code.NONE
    assert await push(telemetry, asker, 1.4) is Code.THROTTLING_QUOTA_EXCEEDED
    assert await push(telemetry, asker, 1.5) is Code.NONE
    assert ask(telemetry, asker, 2.0) is Code.THROTTLING_QUOTA_EXCEEDED
    assert telemetry.throttled == 2


async def a_change_is_told_at_once() -> None:
    telemetry, asker = made(), Connections().asker()
    telemetry.subscribe("s", INTERVAL)
    before = telemetry.ask(ID, asker, 0.0).requested.subscription_id
    assert await push(telemetry, asker, 0.1) is Code.NONE
    telemetry.subscribe("s", None)
    assert await push(telemetry, asker, 0.2, subscription_id=before) is Code.UNKNOWN_SUBSCRIPTION_ID
    assert telemetry.ask(ID, asker, 0.3).requested.metrics == ()
    assert telemetry.unknown_subscriptions == 1


async def the_last_push_is_the_last() -> None:
    telemetry, asker = made(), Connections().asker()
    ask(telemetry, asker, 0.0)
    assert await push(telemetry, asker, 0.1) is Code.NONE
    assert await push(telemetry, asker, 0.2, terminating=True) is Code.NONE
    assert await push(telemetry, asker, 0.3, terminating=True) is Code.INVALID_REQUEST


async def an_instance_expires() -> None:
    telemetry, asker = made(), Connections().asker()
    telemetry.subscribe("s", INTERVAL)
    ask(telemetry, asker, 0.0)
    await push(telemetry, asker, 0.1, terminating=True)
    assert await push(telemetry, asker, 60.0, terminating=True) is Code.INVALID_REQUEST
    assert ask(telemetry, asker, 120.1) is Code.NONE
    assert await push(telemetry, asker, 120.2) is Code.NONE


async def instances_are_bounded() -> None:
    telemetry, connections = made(), Connections()
    for number in range(client_telemetry.CLIENT_INSTANCES_MAX + 10):
        ask(telemetry, connections.asker(), 0.0, (1000 + number).to_bytes(16, "big"))
    assert len(telemetry) == client_telemetry.CLIENT_INSTANCES_MAX
    assert ask(telemetry, connections.asker(), 0.1, (1000).to_bytes(16, "big")) is Code.NONE, "evicted, so made anew"
    assert ask(telemetry, connections.asker(), 0.1, (2000).to_bytes(16, "big")) is Code.THROTTLING_QUOTA_EXCEEDED
    assert len(connections.calls[1]) == 1
    ask(telemetry, connections.asker(), 901.0, ID)
    assert len(telemetry) == 1, "the others have expired"


async def an_instance_goes_with_its_connection() -> None:
    telemetry, connections = made(), Connections()
    ask(telemetry, connections.asker(1), 0.0)
    assert ask(telemetry, connections.asker(2), 0.1) is Code.THROTTLING_QUOTA_EXCEEDED
    connections.end(2)
    assert len(telemetry) == 1, "it did not appear on that one"
    connections.end(1)
    assert len(telemetry) == 0


async def a_client_without_an_id_is_given_one() -> None:
    telemetry, connections = made(), Connections()
    ids = {telemetry.ask(bytes(16), connections.asker(n), 0.0).id for n in range(3)}
    assert len(ids) == 3
    assert bytes(16) not in ids


async def what_a_receiver_gets() -> None:
    telemetry, asker = made(), Connections().asker()
    taken: list[Push] = []

    class Receiver:
        async def export(self, push: Push) -> None:
            if push.metrics == b"bad":
                raise UnreadableMetrics("bad")
            taken.append(push)

    telemetry.receiver = Receiver()
    ask(telemetry, asker, 0.0)
    assert await push(telemetry, asker, 1.0, compression_type=4, metrics=compress("zstd", b"x" * 1000)) is Code.NONE
    assert await push(telemetry, asker, 301.0, metrics=b"") is Code.NONE
    for at, (codec, body) in enumerate([(0, b"bad"), (4, compress("zstd", b"x" * 1001)), (1, b"no gzip")], 2):
        assert await push(telemetry, asker, at * 301.0, compression_type=codec, metrics=body) is Code.INVALID_RECORD
    (only,) = taken
    assert only.metrics == b"x" * 1000
    assert (only.client_id, only.software_name, only.interval_ms) == ("app", "java", 300_000)
    assert (telemetry.exported, telemetry.export_errors) == (1, 3)


@pytest.mark.parametrize(
    "story",
    [
        first_push_comes_when_it_likes,
        a_change_is_told_at_once,
        the_last_push_is_the_last,
        an_instance_expires,
        instances_are_bounded,
        an_instance_goes_with_its_connection,
        a_client_without_an_id_is_given_one,
        what_a_receiver_gets,
    ],
)
def test_story(story: Callable[[], Any]) -> None:
    trio.run(story)
