"""What a client pushes, taken apart: OpenTelemetry's MetricsData as a list of numbers with names and labels.

KIP-714 has clients send gauges and sums. Histograms and summaries are counted as dropped.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.message import DecodeError
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags, MetricsData

from kpybroker.metrics.client_telemetry import UnreadableMetrics

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint

TEXT_CHARS_MAX = 128
"""Of a name or a label's value; what is longer is cut."""
LABELS_MAX = 10
PARTS_MAX = 20_000
"""Looked at in one push: a megabyte has room for half a million empty ones, which would take seconds."""
OWN_PREFIXES = ("kafka_server_", "kpybroker_")
"""Metrics of the broker itself."""

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")
_NO_VALUE = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK

Labels = tuple[tuple[str, str], ...]


class Point(NamedTuple):
    """One number of one metric."""

    name: str
    """As Prometheus wants it: dots have become underscores."""
    counter: bool
    """Whether it only ever grows."""
    delta: bool
    """Whether the value comes on top of the one before, rather than in its place."""
    value: float
    labels: Labels
    documentation: str


def points_of(metrics: bytes, points_max: int) -> tuple[list[Point], int]:
    """The numbers in a MetricsData, and how many more there were that are left out: other kinds, and too many.

    Raises: UnreadableMetrics.
    """
    try:
        data = MetricsData.FromString(metrics)
    except DecodeError as why:
        raise UnreadableMetrics(f"not OpenTelemetry's MetricsData: {why}") from None
    points: list[Point] = []
    dropped = 0
    for point in _all_points(data):
        if point is None or len(points) >= points_max:
            dropped += 1
        else:
            points.append(point)
    return points, dropped


def _all_points(data: MetricsData) -> Iterator[Point | None]:
    """The numbers; None for each that is left out. Raises: UnreadableMetrics when there is no end of them."""
    parts = itertools.count(1)

    def one_more() -> None:
        if next(parts) > PARTS_MAX:
            raise UnreadableMetrics(f"more than {PARTS_MAX} metrics and numbers")

    for resource in data.resource_metrics:
        one_more()
        for scope in resource.scope_metrics:
            one_more()
            for metric in scope.metrics:
                one_more()
                for point in _points(metric, resource.resource.attributes):
                    one_more()
                    yield point


def _points(metric: Metric, resource: Iterable[KeyValue]) -> Iterator[Point | None]:
    """The numbers of one metric; None for each that is left out."""
    kind = metric.WhichOneof("data")
    if kind not in ("gauge", "sum"):
        yield from (None for _ in getattr(metric, kind).data_points) if kind else ()
        return
    name, documentation = _metric_name(metric.name), metric.description[:TEXT_CHARS_MAX]
    delta = kind == "sum" and metric.sum.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    counter = kind == "sum" and metric.sum.is_monotonic
    of_resource = dict(_labels(resource))
    for point in metric.gauge.data_points if kind == "gauge" else metric.sum.data_points:
        if not name or point.flags & _NO_VALUE:
            yield None
            continue
        labels = of_resource | dict(_labels(point.attributes))
        first = tuple(sorted(labels.items())[:LABELS_MAX])
        yield Point(name, counter, delta, _value(point), first, documentation)


def _value(point: NumberDataPoint) -> float:
    return float(point.as_int) if point.WhichOneof("value") == "as_int" else point.as_double


def _labels(attributes: Iterable[KeyValue]) -> Iterator[tuple[str, str]]:
    for each in attributes:
        kind = each.value.WhichOneof("value")
        text = str(getattr(each.value, kind)) if kind else ""
        if name := name_of(each.key):
            yield name, text[:TEXT_CHARS_MAX]


def _metric_name(text: str) -> str:
    """Without the ending that Prometheus gives to counters; empty for one that could be taken for the broker's own."""
    name = name_of(text).removesuffix("_total")
    return "" if name.startswith(OWN_PREFIXES) else name


def name_of(text: str) -> str:
    """A name that Prometheus takes, for a metric or a label: letters, digits and underscores, no digit first."""
    name = _NOT_IN_NAMES.sub("_", text[:TEXT_CHARS_MAX])
    return f"_{name}" if name[:1].isdigit() or name.startswith("__") else name
