"""A node with ten thousand partitions: to create them, to start, to stop, and what it takes of the machine.

    python bench/partitions_bench.py                       # a minute or two
    python bench/partitions_bench.py --partitions 1000

Every partition gets a record before each stop, so that a stop has all of them to close. Start is from the start of the
process to its first answer to ApiVersions; after a kill -9 every log is looked at before that. Needs confluent-kafka.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, str(Path(__file__).parent.parent / "compat-tests"))

from broker_process import resident_mb
from harness.brokers import Kpybroker

PARTITIONS_A_TOPIC: Final = 500
LIMIT_S: Final = 300.0


def run(partitions: int, folder: Path) -> None:
    broker = Kpybroker(folder)
    topics = {f"t{number}": PARTITIONS_A_TOPIC for number in range(partitions // PARTITIONS_A_TOPIC)}
    try:
        timed("start, empty", broker.start)
        timed("create the partitions", lambda: create(broker.address, topics))
        print_size(broker)
        for how in ("first", "second"):
            timed(f"a record for each, {how} time", lambda: produce(broker.address, topics))
            print_size(broker)
            timed("clean stop", broker.stop)
            timed("start after it", broker.start)
            print_size(broker)
        timed("a record for each", lambda: produce(broker.address, topics))
        broker.kill()
        timed("start after kill -9", broker.start)
        print_size(broker)
        timed("clean stop", broker.stop)
    finally:
        broker.kill()


def timed(what: str, action: Callable[[], None]) -> None:
    started = time.perf_counter()
    action()
    print(f"{what:<35} {time.perf_counter() - started:8.2f} s", flush=True)


def print_size(broker: Kpybroker) -> None:
    files = len(os.listdir(f"/proc/{broker.pid}/fd"))
    print(f"{'':<35} {resident_mb(broker.pid):8.0f} MB resident, {files} descriptors", flush=True)


def create(address: str, topics: dict[str, int]) -> None:
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    for topic, partitions in topics.items():
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(LIMIT_S)


def produce(address: str, topics: dict[str, int]) -> None:
    producer = Producer({"bootstrap.servers": address, "linger.ms": 50, "acks": "all", "log_level": 0})
    for topic, partitions in topics.items():
        for partition in range(partitions):
            producer.produce(topic, b"x" * 100, partition=partition)
        producer.poll(0)
    assert producer.flush(LIMIT_S) == 0, "not all were acknowledged"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--partitions", type=int, default=10_000, help="in topics of 500 [10000]")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured [the system's for temporary files]")
    options = parser.parse_args(arguments)
    print(f"{options.partitions} partitions; load {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory(prefix="kpybroker-bench-", dir=options.folder) as folder:
        run(options.partitions, Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
