"""The numbers that clients have pushed, as Prometheus is to see them: bounded, and forgotten when a client is silent.

A client that pushes deltas has them added up here, so that a counter is a counter. What there is no room for is
dropped, and counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kpybroker.metrics.client_telemetry import Push
    from kpybroker.metrics.otlp import Labels, Point

SERIES_OF_A_CLIENT_MAX = 1000
SERIES_MAX = 20_000
SILENT_S_MIN = 60.0
"""How long a client's numbers stay after its last push, at least; else three of its intervals."""


class Family(NamedTuple):
    """A metric's name and what it is; all its series have that in common."""

    name: str
    counter: bool
    documentation: str


class Sample(NamedTuple):
    """One series and its value."""

    family: Family
    labels: Labels
    value: float


class _ClientSeries:
    __slots__ = ("expires_s", "labels", "values")

    def __init__(self) -> None:
        self.labels: Labels = ()
        self.expires_s = 0.0
        self.values: dict[tuple[str, Labels], float] = {}


class PushedSeries:
    """All series of all clients."""

    def __init__(self, *, series_max: int = SERIES_MAX, of_a_client_max: int = SERIES_OF_A_CLIENT_MAX) -> None:
        self.dropped = 0
        self._series_max = series_max
        self._of_a_client_max = of_a_client_max
        self._clients: dict[str, _ClientSeries] = {}
        self._families: dict[str, Family] = {}  # by name: a metric is of the kind of which it was when it first came
        self._count = 0

    def take(self, push: Push, points: Iterable[Point], now_s: float) -> None:
        """Keep what a client has pushed."""
        self._expire(now_s)
        client = self._clients.setdefault(push.client_instance_id, _ClientSeries())
        client.expires_s = now_s + max(SILENT_S_MIN, 3 * push.interval_ms / 1000)
        client.labels = (
            ("client_id", push.client_id),
            ("client_instance_id", push.client_instance_id),
            ("client_software_name", push.software_name),
            ("client_software_version", push.software_version),
        )
        for point in points:
            key = (point.name, point.labels)
            before = client.values.get(key)
            family = Family(point.name, point.counter, point.documentation)
            if self._families.get(point.name, family).counter != point.counter:
                self.dropped += 1
                continue
            if before is None:
                if self._count >= self._series_max or len(client.values) >= self._of_a_client_max:
                    self.dropped += 1
                    continue
                self._families.setdefault(point.name, family)
                self._count += 1
            client.values[key] = point.value + (before or 0.0) if point.delta else point.value

    def samples(self, now_s: float) -> list[Sample]:
        """Every series of those clients that are not silent, by metric."""
        self._expire(now_s)
        samples = []
        for client in self._clients.values():
            own = {name for name, _ in client.labels}
            for (name, labels), value in client.values.items():
                others = tuple(each for each in labels if each[0] not in own)
                samples.append(Sample(self._families[name], client.labels + others, value))
        samples.sort(key=lambda sample: sample.family.name)
        return samples

    def _expire(self, now_s: float) -> None:
        silent = [name for name, client in self._clients.items() if client.expires_s <= now_s]
        for name in silent:
            self._count -= len(self._clients.pop(name).values)
        if silent:
            kept = {name for client in self._clients.values() for name, _ in client.values}
            self._families = {name: family for name, family in self._families.items() if name in kept}
