"""Pushes as clients make them."""

from __future__ import annotations

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

DELTA, CUMULATIVE = 1, 2


def attributes(given: dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in given.items()]


def gauge(name: str, value: float, **labels: str) -> Metric:
    return Metric(name=name, gauge=Gauge(data_points=[NumberDataPoint(as_double=value, attributes=attributes(labels))]))


def total(name: str, value: int, temporality: int = DELTA, *, monotonic: bool = True, **labels: str) -> Metric:
    point = NumberDataPoint(as_int=value, attributes=attributes(labels))
    return Metric(name=name, sum=Sum(data_points=[point], aggregation_temporality=temporality, is_monotonic=monotonic))


def histogram(name: str) -> Metric:
    return Metric(name=name, histogram=Histogram(data_points=[HistogramDataPoint(count=1, sum=1.0)]))


def metrics_data(*metrics: Metric, **resource: str) -> bytes:
    of = ResourceMetrics(
        resource=Resource(attributes=attributes(resource)), scope_metrics=[ScopeMetrics(metrics=list(metrics))]
    )
    return MetricsData(resource_metrics=[of]).SerializeToString()
