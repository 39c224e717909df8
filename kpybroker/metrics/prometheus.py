"""`metric.reporters=kpybroker.PrometheusReporter`: what clients push, at http://HOST:PORT/metrics for Prometheus.

A receiver of client telemetry, as a class of Java's can be one for Kafka. This module and its libraries (the extra
`prometheus`) are imported only where it is configured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import trio
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from kpybroker.metrics.client_telemetry import ClientTelemetry, Push
from kpybroker.metrics.http import Answer, HttpServer
from kpybroker.metrics.otlp import points_of
from kpybroker.metrics.series import SERIES_OF_A_CLIENT_MAX, PushedSeries, Sample

if TYPE_CHECKING:
    from kpybroker.clock import Clock

PATH = "/metrics"


class PrometheusReporter:
    """Receives pushed metrics, and shows them over HTTP while `run` runs."""

    def __init__(self, telemetry: ClientTelemetry, clock: Clock, host: str, port: int) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._series = PushedSeries()
        self._one_at_a_time = trio.CapacityLimiter(1)  # taken apart, a push can be fifty times its size
        self._server = HttpServer(host, port, {PATH: self._exposition})

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    async def bind(self) -> None:
        """Begin to listen. Raises: OSError."""
        await self._server.bind()

    async def run(self) -> None:
        """Answer until cancelled."""
        await self._server.run()

    async def export(self, push: Push) -> None:
        """See Receiver."""
        points, dropped = await trio.to_thread.run_sync(
            points_of, push.metrics, SERIES_OF_A_CLIENT_MAX, limiter=self._one_at_a_time
        )
        self._series.dropped += dropped
        self._series.take(push, points, self._clock.monotonic_s())

    async def _exposition(self, accept: str) -> Answer:
        """Every number, in the form that the scraper prefers; written in a thread, as it may be long."""
        samples, own = self._series.samples(self._clock.monotonic_s()), self._own()
        encode, content_type = choose_encoder(accept)
        return Answer(content_type, await trio.to_thread.run_sync(_written, encode, samples, own))

    def _own(self) -> list[Metric]:
        """What the broker counts itself; Kafka's names, as its JMX metrics are usually mapped."""
        telemetry = self._telemetry
        prefix = "kafka_server_client_metrics"
        return [
            GaugeMetricFamily(f"{prefix}_instance_count", "Client instances that are known.", len(telemetry)),
            CounterMetricFamily(
                f"{prefix}_unknown_subscription_request_count",
                "Pushes under another subscription than the client's.",
                telemetry.unknown_subscriptions,
            ),
            CounterMetricFamily(f"{prefix}_throttle_count", "Requests within the interval.", telemetry.throttled),
            CounterMetricFamily(f"{prefix}_plugin_export_count", "Pushes that were taken.", telemetry.exported),
            CounterMetricFamily(f"{prefix}_plugin_error_count", "Pushes not readable.", telemetry.export_errors),
            CounterMetricFamily(
                "kpybroker_client_metrics_dropped",
                "Numbers that were pushed and are not shown: of a kind that is not, or too many.",
                self._series.dropped,
            ),
        ]


class _Collected(Collector):
    """What was collected, for an encoder to iterate over."""

    def __init__(self, samples: list[Sample], own: list[Metric]) -> None:
        self._samples = samples
        self._own = own

    def collect(self) -> Iterator[Metric]:
        yield from self._own
        for family, samples in itertools.groupby(self._samples, key=lambda sample: sample.family):
            make = CounterMetricFamily if family.counter else GaugeMetricFamily
            metric = make(family.name, family.documentation)
            suffix = "_total" if family.counter else ""
            for sample in samples:
                metric.add_sample(f"{metric.name}{suffix}", dict(sample.labels), sample.value)
            yield metric


def _written(encode: Callable[[CollectorRegistry], bytes], samples: list[Sample], own: list[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(samples, own))
    return encode(registry)
