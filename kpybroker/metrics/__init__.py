"""Numbers: what clients push (KIP-714), and where it is shown."""

from typing import Final

PROMETHEUS_REPORTER: Final = "kpybroker.PrometheusReporter"
"""In metric.reporters: the one receiver of client metrics that there is."""
