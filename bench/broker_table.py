"""The table of a broker bench: what was measured of each, their ratio, and the target of DESIGN.md, section 5."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Row:
    """One quantity: its name in the measures, what it is, and what kpybroker/Kafka is to be (None: no target)."""

    name: str
    title: str
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    def target(self) -> str:
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return "" if self.at_least is None else f">= {self.at_least:g}"

    def met(self, ratio: float) -> bool:
        return (self.at_most is None or ratio <= self.at_most) and (self.at_least is None or ratio >= self.at_least)


ROWS: Final = (
    Row("start", "start to first answer", "s", at_most=0.08),
    Row("memory idle", "resident memory, idle", "MB", at_most=0.12),
    Row("memory after", "resident memory, after", "MB", at_most=0.15),
    Row("produce acks=1", "producer-performance, acks=1", "MB/s", at_least=1.5),
    Row("produce acks=all", "producer-performance, acks=all", "MB/s", at_least=1.5),
    Row("consume", "consumer-performance", "MB/s", at_least=1.5),
    Row("cpu in acks=1", "broker CPU in, acks=1", "s/GB", at_most=0.5),
    Row("cpu in acks=all", "broker CPU in, acks=all", "s/GB", at_most=0.5),
    Row("cpu out", "broker CPU out", "s/GB", at_most=0.4),
    Row("sync produce p50", "synchronous produce, acks=1, p50", "ms", at_most=0.8),
    Row("sync produce p99", "synchronous produce, acks=1, p99", "ms", at_most=1.0),
    Row("sync produce acks=all p50", "synchronous produce, acks=all, p50", "ms", at_most=0.8),
    Row("sync produce acks=all p99", "synchronous produce, acks=all, p99", "ms", at_most=1.0),
    Row("sync confluent p50", "the same by confluent-kafka, p50", "ms"),
    Row("sync confluent p99", "the same by confluent-kafka, p99", "ms"),
    Row("end to end p50", "end to end, p50", "ms", at_most=0.8),
    Row("end to end p99", "end to end, p99", "ms", at_most=1.0),
)


def print_table(medians: Mapping[str, Mapping[str, float]], options: argparse.Namespace) -> None:
    """Print the medians of all rounds, side by side; a ratio that misses its target is marked."""
    kafka, ours = medians.get("kafka", {}), medians.get("kpybroker", {})
    print(f"{'':<36} {'unit':<5} {'kafka':>10} {'kpybroker':>10} {'ratio':>7}  target")
    for row in ROWS:
        theirs, mine = kafka.get(row.name), ours.get(row.name)
        cells = [f"{value:10.3f}" if value is not None else f"{'-':>10}" for value in (theirs, mine)]
        if theirs and mine is not None:
            ratio = mine / theirs
            verdict = f"{ratio:7.3f}  {row.target():<8} {'' if row.met(ratio) else 'short'}"
        else:
            verdict = f"{'-':>7}  {row.target()}"
        print(f"{row.title:<36} {row.unit:<5} {cells[0]} {cells[1]} {verdict}".rstrip())
    print(f"""
Medians of {options.rounds} round(s), each {options.megabytes:,} MB in records of 1,000 bytes, in and out, for acks=1
and for acks=all, on topics of {options.partitions} partition(s); {options.starts} starts on a directory that was there.
Latencies of {options.requests:,} requests of one record of 1,000 bytes, one at a time (confluent-kafka:
{options.requests // 2:,}, end to end: {options.requests // 5:,}).
Both brokers ran at once and were measured in turn.""")


def print_ratios(
    rows: Mapping[str, tuple[str, str]], kinds: Sequence[str], measured: Mapping[str, Mapping[str, Sequence[float]]]
) -> None:
    """Medians of Kafka's rounds and of kpybroker's, with their ratio. `rows`: by name, what it is and its unit."""
    print(f"{'':<32} {'unit':<4} {'kafka':>10} {'kpybroker':>10} {'ratio':>7}")
    for what, (title, unit) in rows.items():
        found = [statistics.median(measured[kind][what]) if kind in measured else None for kind in kinds]
        cells = [f"{'-':>10}" if value is None else f"{value:10.1f}" for value in found]
        theirs, ours = found
        ratio = f"{ours / theirs:7.2f}" if theirs and ours is not None else f"{'-':>7}"
        print(f"{title:<32} {unit:<4} {cells[0]} {cells[1]} {ratio}")
