"""Mutated requests and bad connections against a node, while stock clients work on and check every record.

    python bench/hostile.py --requests 1000000 --connections 10000 --seed 1

Prints what the clients saw (errors: there must be none), the broker's memory before, during and after, the latency of a
synchronous produce before and during, and lines of the broker's log that should not be there. The same seed makes the
same requests. Ends with code 1 if a client saw an error or the log has a bug of ours.

Needs what compat-tests/ needs: confluent-kafka, kafka-python.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "compat-tests"))

from harness.brokers import ApacheKafka, ChildBroker, Kpybroker
from harness.hostile.campaign import SETTINGS, Campaign, Found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000, help="mutated requests [200000]")
    parser.add_argument("--connections", type=int, default=2000, help="bad connections [2000]")
    parser.add_argument("--seed", type=int, default=1, help="of what is sent [1]")
    parser.add_argument("--quiet", type=float, default=10.0, help="seconds before and after without an attack [10]")
    parser.add_argument("--broker", choices=["kpybroker", "kafka"], default="kpybroker", help="which [kpybroker]")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kpybroker-hostile-") as name:
        kind = Kpybroker if options.broker == "kpybroker" else ApacheKafka
        broker: ChildBroker = kind(Path(name), settings=SETTINGS)
        broker.start()
        try:
            campaign = Campaign(
                broker,
                requests=options.requests,
                connections=options.connections,
                seed=options.seed,
                quiet_s=options.quiet,
            )
            found = campaign.run()
            broker.stop()
        finally:
            broker.kill()
    report(found)
    return 1 if found.errors or found.bugs else 0


def report(found: Found) -> None:
    print(f"requests     {dict(found.requests)} in {found.seconds:.0f} s")
    print(f"connections  {dict(found.connections)}")
    print(f"records      {found.records}")
    print(f"errors       {len(found.errors)} seen by the stock clients")
    for error in found.errors[:20]:
        print(f"  {error}")
    print(f"memory, MB   {found.before_mb:.0f} before, {found.most_mb:.0f} at most, {found.after_mb:.0f} after")
    print(f"produce, ms  p50 {found.p50_ms[0]} before, {found.p50_ms[1]} during")
    print(f"             p99 {found.p99_ms[0]} before, {found.p99_ms[1]} during")
    print(
        f"log          {found.log_bytes} bytes, {found.warnings} warnings, {len(found.bugs)} that should not be there"
    )
    for bug in found.bugs[:5]:
        print(bug)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
