"""Settings of metrics: those of a broker, and those of a subscription of client metrics (KIP-714)."""

from __future__ import annotations

from typing import Final

from kpybroker.config.setting import CLUSTER, INERT, INT, LIST, LONG, STATIC, STRING, USED, Setting, at_least, items

# fmt: off
# Rows to be read as a table: name, type, default, bounds, when it can be changed, whether it does anything here.

METRICS: Final[tuple[Setting, ...]] = (
    Setting("metric.reporters", LIST, ("org.apache.kafka.common.metrics.JmxReporter",), items(), CLUSTER, USED,
            "Who is handed metrics: kpybroker.PrometheusReporter; Java plug-ins cannot be loaded here."),
    Setting("metrics.num.samples", INT, 2, at_least(1), STATIC, INERT,
            "How many samples Kafka's metrics are computed over."),
    Setting("metrics.sample.window.ms", LONG, 30_000, at_least(1), STATIC, INERT,
            "The length of such a sample."),
    Setting("metrics.recording.level", STRING, "INFO", None, STATIC, INERT,
            "How much Kafka measures: INFO, DEBUG or TRACE."),
    Setting("kafka.metrics.reporters", LIST, (), items(), STATIC, INERT,
            "Java classes that Kafka hands its older metrics to; Java plug-ins cannot be loaded here."),
    Setting("kafka.metrics.polling.interval.secs", INT, 10, at_least(1), STATIC, INERT,
            "How often such classes look at the metrics."),
    Setting("telemetry.max.bytes", INT, 1_048_576, at_least(1), STATIC, USED,
            "The largest push of metrics from a client (KIP-714)."),
)

OURS: Final[tuple[Setting, ...]] = (
    Setting("kpybroker.prometheus.listener", STRING, "localhost:9464", None, STATIC, USED,
            "Where kpybroker.PrometheusReporter listens: HOST:PORT; no host means every interface.", internal=True),
)
"""What Kafka has no setting for. Internal, because DescribeConfigs shows what Kafka's shows."""

CLIENT_METRICS: Final[tuple[Setting, ...]] = (
    Setting("interval.ms", INT, 300_000, None, CLUSTER, USED,
            "How often a client pushes its metrics."),
    Setting("match", LIST, (), items(), CLUSTER, USED,
            "Which clients the subscription is for: attribute=pattern pairs; all of them if none are given."),
    Setting("metrics", LIST, (), items(), CLUSTER, USED,
            "The metrics that are asked for, by prefix of their names; * for all."),
)
