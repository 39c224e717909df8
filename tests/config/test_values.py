"""How texts become values, against what Apache Kafka 4.3.1 made of the same texts (kafka_values.jsonl)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpybroker.config.tables import BROKER_SETTINGS, GROUP_SETTINGS, TOPIC_SETTINGS
from kpybroker.config.values import InvalidValue, Password, Type, parse, shown, text_of

KAFKA = [json.loads(line) for line in Path(__file__).with_name("kafka_values.jsonl").read_text().splitlines()]
TABLES = {"broker": BROKER_SETTINGS, "topic": TOPIC_SETTINGS, "group": GROUP_SETTINGS}
OWN_WORDS = {"controller.quorum.voters", "controller.quorum.bootstrap.servers"}
"""Only whoever starts a node gets to read what is wrong with these, so the sentence is ours."""


@pytest.mark.parametrize("kafka", [pytest.param(each, id=f"{each['name']}={each['text']!r}") for each in KAFKA])
def test_value(kafka: dict[str, Any]) -> None:
    setting = TABLES[kafka["scope"]][kafka["name"]]
    if kafka["error"] is None:
        assert text_of(setting.parse(kafka["text"])) == kafka["value"]
        return
    with pytest.raises(InvalidValue) as refused:
        setting.parse(kafka["text"])
    if kafka["name"] not in OWN_WORDS:
        assert str(refused.value) == kafka["error"]
    assert "\n" not in str(refused.value).replace(kafka["text"], "")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_double_is_read_back_as_it_was_written(number: float) -> None:
    text = text_of(number)
    assert text is not None
    assert parse("x", text, Type.DOUBLE) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1e-3, "0.001"),
        (9.99e-4, "9.99E-4"),
        (9_999_999.0, "9999999.0"),
        (1e7, "1.0E7"),
        (2147483647.0, "2.147483647E9"),
        (-12345678.9, "-1.23456789E7"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (float("nan"), "NaN"),
    ],
)
def test_doubles_are_written_as_java_writes_them(number: float, text: str) -> None:
    assert text_of(number) == text


@given(st.sampled_from(Type), st.text(max_size=20))
def test_any_text_is_a_value_or_refused(type_: Type, text: str) -> None:
    try:
        outcome = text_of(parse("some.name", text, type_))
    except InvalidValue as refused:
        outcome = str(refused)
    assert outcome is not None


def test_a_secret_shows_only_where_it_is_asked_for() -> None:
    secret = parse("ssl.key.password", " s3cret ", Type.PASSWORD)
    assert isinstance(secret, Password)
    assert secret.value == text_of(secret) == "s3cret"
    assert "s3cret" not in f"{secret} {secret!r} {shown(secret)}"
    assert secret == Password("s3cret")
    assert secret != Password("other")
