"""What is shown of what clients push: names, kinds, sums, bounds, and when it is forgotten."""

from __future__ import annotations

import pytest

from kpybroker.metrics.client_telemetry import Push, UnreadableMetrics
from kpybroker.metrics.otlp import name_of, points_of
from kpybroker.metrics.series import PushedSeries

from .pushed import CUMULATIVE, gauge, histogram, metrics_data, total


def push(client: str = "c", interval_ms: int = 1000) -> Push:
    return Push(
        client_instance_id=f"id-of-{client}",
        client_id=client,
        software_name="java",
        software_version="1",
        interval_ms=interval_ms,
        terminating=False,
        metrics=b"",
    )


def values(series: PushedSeries, now_s: float = 0.0) -> dict[tuple[str, str], float]:
    """What is shown, by metric and client."""
    return {(each.family.name, dict(each.labels)["client_id"]): each.value for each in series.samples(now_s)}


def take(series: PushedSeries, data: bytes, now_s: float = 0.0, client: str = "c", interval_ms: int = 1000) -> None:
    points, dropped = points_of(data, 1000)
    assert dropped == 0
    series.take(push(client, interval_ms), points, now_s)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org.apache.kafka.producer.connection.creation.rate", "org_apache_kafka_producer_connection_creation_rate"),
        ("client-id", "client_id"),
        ("9lives", "_9lives"),
        ("__reserved", "___reserved"),
        ("naïve\n{}", "na_ve___"),
        ("", ""),
        ("x" * 300, "x" * 128),
    ],
)
def test_names(text: str, name: str) -> None:
    assert name_of(text) == name


def test_points() -> None:
    data = metrics_data(gauge("g.a", 1.5, topic="t"), total("s.b", 3), total("u", 2, monotonic=False), group_id="g")
    points, dropped = points_of(data, 10)
    assert dropped == 0
    assert [(each.name, each.counter, each.delta, each.value, each.labels) for each in points] == [
        ("g_a", False, False, 1.5, (("group_id", "g"), ("topic", "t"))),
        ("s_b", True, True, 3.0, (("group_id", "g"),)),
        ("u", False, True, 2.0, (("group_id", "g"),)),
    ]


def test_what_is_left_out_is_counted() -> None:
    data = metrics_data(histogram("h"), gauge("kpybroker.fake", 1), gauge("a", 1), gauge("b", 1), gauge("c", 1))
    points, dropped = points_of(data, 2)
    assert [each.name for each in points] == ["a", "b"]
    assert dropped == 3


@pytest.mark.parametrize("data", [b"\xff", b"no protocol buffer", metrics_data(gauge("g", 1))[:-1]])
def test_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableMetrics):
        points_of(data, 10)


@pytest.mark.parametrize("repeated", [b"\x0a\x00", b"\x0a\x02\x12\x00"])
def test_a_push_of_very_many_parts(repeated: bytes) -> None:
    with pytest.raises(UnreadableMetrics, match="more than 20000 metrics and numbers"):
        points_of(repeated * 200_000, 10)


def test_deltas_add_up_and_cumulative_ones_do_not() -> None:
    series = PushedSeries()
    for _ in range(3):
        take(series, metrics_data(total("d", 2), total("c", 5, CUMULATIVE), gauge("g", 7)))
    assert values(series) == {("d", "c"): 6, ("c", "c"): 5, ("g", "c"): 7}


def test_the_broker_s_labels_win() -> None:
    series = PushedSeries()
    take(series, metrics_data(gauge("g", 1, client_id="somebody else", topic="t")))
    (sample,) = series.samples(0.0)
    assert dict(sample.labels) == {
        "client_id": "c",
        "client_instance_id": "id-of-c",
        "client_software_name": "java",
        "client_software_version": "1",
        "topic": "t",
    }


def test_a_silent_client_is_forgotten() -> None:
    series = PushedSeries()
    take(series, metrics_data(gauge("g", 1)), client="quick")
    take(series, metrics_data(gauge("g", 2)), client="slow", interval_ms=30_000)
    assert len(values(series, 59.9)) == 2
    assert values(series, 60.0) == {("g", "slow"): 2}
    assert values(series, 90.0) == {}
    take(series, metrics_data(total("g", 1)), 91.0)
    assert values(series, 91.0) == {("g", "c"): 1}, "it may come back as another kind"


def test_bounds() -> None:
    series = PushedSeries(series_max=5, of_a_client_max=3)
    take(series, metrics_data(*(gauge(f"g{i}", i) for i in range(4))), client="a")
    take(series, metrics_data(*(gauge(f"g{i}", i) for i in range(4))), client="b")
    assert len(values(series)) == 5
    assert series.dropped == 3
    take(series, metrics_data(gauge("g0", 9)), client="a")
    assert values(series)["g0", "a"] == 9, "what is known goes on"
    assert len(values(series, 61.0)) == 0
    take(series, metrics_data(gauge("new", 1)), 61.0)
    assert values(series, 61.0) == {("new", "c"): 1}


def test_a_name_has_one_kind() -> None:
    series = PushedSeries()
    take(series, metrics_data(gauge("x", 1)), client="first")
    take(series, metrics_data(total("x_total", 1)), client="second")
    assert values(series) == {("x", "first"): 1}
    assert series.dropped == 1
