"""Subscriptions of client metrics: which clients they match, and what a client is asked for by all of them."""

from __future__ import annotations

import pytest

from kpybroker.metrics.subscriptions import IllegalPattern, Subscription, parse_match, requested

ID = bytes(range(16))
CLIENT = {
    "client_instance_id": "AAECAwQFBgcICQoLDA0ODw",
    "client_id": "app-1",
    "client_software_name": "apache-kafka-java",
    "client_software_version": "4.3.1",
    "client_source_address": "10.0.0.7",
    "client_source_port": "40000",
}


def subscription(*metrics: str, interval_ms: int = 300_000, match: tuple[str, ...] = ()) -> Subscription:
    return Subscription(metrics=metrics, interval_ms=interval_ms, match=parse_match(match))


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        ((), True),
        (("client_id=app-.*",), True),
        (("client_id=app",), False),  # the whole of it
        ((" client_id = app-1 ",), True),
        (("client_id=app-1", "client_source_port=4.*"), True),
        (("client_id=app-1", "client_source_address=127.*"), False),
        (("client_software_name=apache-kafka-java", r"client_software_version=4\.3\..*"), True),
        (("client_instance_id=AAECAwQFBgcICQoLDA0ODw",), True),
        (("client_id=nobody", "client_id=app-1"), True),  # of two for one attribute the later
        (("client_id=app-1=",), True),  # what Java's split makes of it
    ],
)
def test_match(match: tuple[str, ...], matches: bool) -> None:
    assert subscription(match=match).matches(CLIENT) is matches


def test_a_client_without_an_attribute_is_not_matched_by_it() -> None:
    assert not subscription(match=("client_id=.*",)).matches(CLIENT | {"client_id": None})


@pytest.mark.parametrize("text", ["", "=", "client_id", "client_id=", "=app", "id=app", "client_id=a=b", "client_id=("])
def test_illegal_patterns(text: str) -> None:
    with pytest.raises(IllegalPattern, match="Illegal client matching pattern: "):
        parse_match([text])


@pytest.mark.parametrize(
    ("subscriptions", "metrics", "interval_ms"),
    [
        pytest.param({}, (), 300_000, id="none"),
        pytest.param({"s": subscription(interval_ms=1000)}, (), 1000, id="an interval alone"),
        pytest.param({"s": subscription("a."), "t": subscription("*")}, ("*",), 300_000, id="all metrics"),
        pytest.param({"s": subscription("a.", interval_ms=500), "t": subscription("a.", "b.", interval_ms=700)},
                     ("b.", "a."), 500, id="the union, the shortest interval"),
        pytest.param({"s": subscription("a.", interval_ms=500, match=("client_id=x",)), "t": subscription("b.")},
                     ("b.",), 300_000, id="one that does not match"),
        pytest.param({"s": subscription(interval_ms=3_600_000)}, (), 300_000, id="never longer than five minutes"),
    ],
)  # fmt: skip
def test_requested(subscriptions: dict[str, Subscription], metrics: tuple[str, ...], interval_ms: int) -> None:
    found = requested(subscriptions, CLIENT, ID)
    assert (found.metrics, found.interval_ms) == (metrics, interval_ms)


def test_the_subscription_id_tells_outcomes_apart() -> None:
    outcomes = [{}, {"s": subscription("a")}, {"s": subscription("b")}, {"s": subscription("a", interval_ms=100)}]
    ids = {requested(each, CLIENT, ID).subscription_id for each in outcomes}
    ids.add(requested({}, CLIENT, bytes(15) + b"\x64").subscription_id)
    assert len(ids) == 5
    assert all(-(1 << 31) <= each < 1 << 31 for each in ids)
