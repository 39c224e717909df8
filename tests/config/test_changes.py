"""Whether a value is taken, and what is said if not: as Apache Kafka 4.3.1, by its recorded answers to each value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import kpybroker
from kpybroker.config import BrokerConfig, validate_topic_overrides
from kpybroker.config.changes import check_change
from kpybroker.config.client_metrics import validate_client_metrics
from kpybroker.config.group import validate_group_overrides
from kpybroker.wire.codes import Code, Refused

ANSWERS = Path(kpybroker.__file__).parent.parent / "compat-tests" / "answers"
OF_THE_CONTROLLER = "Broker-level min.insync.replicas cannot be altered while ELR is enabled."


def answers(case: str) -> Any:
    return json.loads((ANSWERS / f"{case}.jsonl").read_text().splitlines()[-1])["answer"]


def recorded(values: dict[str, list[Any]]) -> list[Any]:
    """(name, text, code, why) of each value, but for what is said of where that broker listened."""
    return [
        pytest.param(*key.split("=", 1), *said, id=key or "empty")
        for key, said in values.items()
        if "'<its own>'" not in str(said[1]) and said[1] != OF_THE_CONTROLLER
    ]


@pytest.fixture(scope="module")
def running() -> BrokerConfig:
    """The settings that the broker had when it was asked."""
    return BrokerConfig.load().with_dynamic(
        default={"log.retention.ms": "3600000", "log.cleaner.threads": "3", "min.insync.replicas": "1"},
        broker={"log.retention.ms": "86400000", "num.io.threads": "9"},
    )


def said(check: Any) -> tuple[int, str | None]:
    try:
        check()
    except Refused as refused:
        return refused.code, refused.message
    return Code.NONE, None


@pytest.mark.parametrize(("name", "text", "code", "why"), recorded(answers("alter-brokers")["values of one"]))
def test_of_one_broker(running: BrokerConfig, name: str, text: str, code: int, why: str | None) -> None:
    settings = {**running.dynamic_broker, name: text}
    assert said(lambda: check_change(running, settings, per_broker=True)) == (code, why)


@pytest.mark.parametrize(("name", "text", "code", "why"), recorded(answers("alter-brokers")["values of all"]))
def test_of_all_brokers(running: BrokerConfig, name: str, text: str, code: int, why: str | None) -> None:
    settings = {**running.dynamic_default, name: text}
    assert said(lambda: check_change(running, settings, per_broker=False)) == (code, why)


@pytest.mark.parametrize(("name", "text", "code", "why"), recorded(answers("alter-values")["topic"]))
def test_of_a_topic(name: str, text: str, code: int, why: str | None) -> None:
    assert said(lambda: validate_topic_overrides(BrokerConfig.load(), {name: text})) == (code, why)


@pytest.mark.parametrize(("name", "text", "code", "why"), recorded(answers("alter-values")["group"]))
def test_of_a_group(name: str, text: str, code: int, why: str | None) -> None:
    assert said(lambda: validate_group_overrides(BrokerConfig.load(), {name: text})) == (code, why)


@pytest.mark.parametrize(("name", "text", "code", "why"), recorded(answers("alter-values")["metrics"]))
def test_of_client_metrics(name: str, text: str, code: int, why: str | None) -> None:
    assert said(lambda: validate_client_metrics("m", {name: text})) == (code, why)


def test_a_group_reports_within_its_session() -> None:
    """The bounds of a broker may allow what makes no sense together: the other half may be the broker's own."""
    broker = BrokerConfig.load(overrides={"group.share.min.session.timeout.ms": "4000"})
    with pytest.raises(
        Refused, match=r"share\.session\.timeout\.ms must be greater than share\.heartbeat\.interval\.ms"
    ):
        validate_group_overrides(broker, {"share.session.timeout.ms": "5000"})
    validate_group_overrides(broker, {"share.session.timeout.ms": "5001"})


def test_listeners_are_opened_at_the_start(running: BrokerConfig) -> None:
    """Not as Kafka, which opens and closes listeners while it runs."""
    same = str(running.static["listeners"])
    more = {"listeners": f"{same},OTHER://:1", "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT"}
    more["listener.security.protocol.map"] += ",CONTROLLER:PLAINTEXT,OTHER:PLAINTEXT"
    assert said(lambda: check_change(running, {"listeners": same}, per_broker=True)) == (Code.NONE, None)
    assert said(lambda: check_change(running, more, per_broker=True)) == (
        Code.INVALID_REQUEST,
        "listeners cannot be changed while this broker runs",
    )
    stored = running.with_dynamic(default={}, broker=more)
    assert stored.reachable.listening == running.reachable.listening
    assert stored.warnings == (
        "listeners, set for this broker, is left out: is taken only from what a broker is started with",
    )


def test_what_a_change_comes_to(running: BrokerConfig) -> None:
    new = check_change(running, {"message.max.bytes": "5"}, per_broker=False)
    assert (new.message_max_bytes, running.message_max_bytes) == (5, 1_048_588)
    assert new["num.io.threads"] == 9, "this broker's own stay"
