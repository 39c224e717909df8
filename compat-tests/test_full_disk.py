"""A stock producer fills a small disk, is told so, and goes on when there is room; a disk that turns read-only.

Of kpybroker only: Apache Kafka ends when its only folder is full. Needs the right to mount a tmpfs; skipped without.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from harness.admin import create_topic
from harness.brokers import BrokerFailed, Kpybroker

DISK_BYTES = 24 << 20
BALLAST_BYTES = 8 << 20
VALUE_BYTES = 20_000
LIMIT_S = 60.0


def _mount(*arguments: str) -> bool:
    done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of DISK_BYTES."""
    path = tmp_path / "disk"
    path.mkdir()
    try:
        mounted = _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path))
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a tmpfs cannot be mounted here, which needs root")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def settings() -> dict[str, str]:
    return {"offsets.topic.num.partitions": "2"}


@pytest.fixture
def broker(disk: Path, tmp_path: Path, pytestconfig: pytest.Config, settings: dict[str, str]) -> Iterator[Kpybroker]:
    if pytestconfig.getoption("--broker") != "kpybroker":
        pytest.skip("what kpybroker does with a full disk")
    broker = Kpybroker(tmp_path / "broker", data_dir=disk / "data", settings=settings)
    broker.start()
    yield broker
    broker.kill()


class Filler:
    """A producer that notes what became of each record."""

    def __init__(self, address: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {"bootstrap.servers": address, "acks": "all", "enable.idempotence": True, "message.timeout.ms": 300_000}
        )
        self.sent = 0
        self.acknowledged: set[int] = set()

    def send(self, count: int, limit_s: float) -> bool:
        """Send so many more; whether all that was sent is acknowledged within the time."""
        for _ in range(count):
            value = b"%d " % self.sent + bytes(VALUE_BYTES)
            self._producer.produce(self._topic, value, on_delivery=self._delivered)
            self.sent += 1
        return self._producer.flush(limit_s) == 0

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        self.acknowledged.add(int((message.value() or b"").split(b" ")[0]))


def _stored(address: str, topic: str, count: int) -> list[int]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = []
    deadline_s = time.monotonic() + LIMIT_S
    while len(found) < count and time.monotonic() < deadline_s:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            found.append(int((message.value() or b"").split(b" ")[0]))
    consumer.close()
    return found


def test_a_full_disk_and_room_again(broker: Kpybroker, disk: Path) -> None:
    """Nothing acknowledged is lost, and one idempotent producer lives through all of it."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(BALLAST_BYTES))
    create_topic(broker.address, "t", 1)
    filler = Filler(broker.address, "t")
    while filler.send(50, 3.0):
        assert filler.sent * VALUE_BYTES < DISK_BYTES, "the disk takes more than it has"
    full = len(filler.acknowledged)
    assert full < filler.sent

    # What a full disk still does: it is read, and says what it can't do.
    assert sorted(_stored(broker.address, "t", full)) == list(range(full))
    assert _refused(broker.address, range(100)) == KafkaError.KAFKA_STORAGE_ERROR
    assert broker.running
    assert "No space left on device" in broker.log_path.read_text()

    ballast.unlink()
    assert filler.send(50, LIMIT_S), "it goes on by itself"
    assert filler.acknowledged == set(range(filler.sent))
    create_topic(broker.address, "another", 1)
    committer = Consumer({"bootstrap.servers": broker.address, "group.id": "g"})
    committer.commit(offsets=[TopicPartition("t", 0, 7)], asynchronous=False)
    committer.close()
    broker.kill()
    broker.start()
    assert _stored(broker.address, "t", filler.sent) == list(range(filler.sent)), "each once, in order"
    broker.stop()
    verified = subprocess.run(
        [broker.command()[0], "log", "verify", str(broker.data_dir)], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stdout


def test_a_full_disk_and_a_stop(broker: Kpybroker, disk: Path) -> None:
    """It stops when it is told to, starts in a line's time or says why not, and has everything when there is room."""
    create_topic(broker.address, "t", 1)
    filler = Filler(broker.address, "t")
    assert filler.send(100, LIMIT_S)
    _fill(disk)
    broker.stop()
    assert "Traceback" not in broker.last_words()
    try:
        broker.start()
        broker.stop()
    except BrokerFailed:
        assert "No space left on device" in broker.log_path.read_text()
    assert "Traceback" not in broker.last_words()
    (disk / "ballast").unlink()
    broker.start()
    assert _stored(broker.address, "t", 100) == list(range(100))


@pytest.mark.parametrize(
    "settings",
    [
        {
            "log.retention.check.interval.ms": "500",
            "log.retention.ms": "3000",
            "log.segment.bytes": str(1 << 20),
            "log.segment.delete.delay.ms": "0",
            "log.flush.offset.checkpoint.interval.ms": "500",
        }
    ],
    ids=["retention of 3 s"],
)
def test_retention_makes_room_on_a_full_disk(broker: Kpybroker) -> None:
    """Old segments go though nothing can be written, and producers go on."""
    create_topic(broker.address, "t", 1)
    filler = Filler(broker.address, "t")
    assert filler.send(3 * DISK_BYTES // VALUE_BYTES, 3 * LIMIT_S), "three times as much as there is room for"
    assert "No space left on device" in broker.log_path.read_text()
    broker.stop()


def test_a_read_only_folder_at_start(broker: Kpybroker, disk: Path) -> None:
    """It does not start, says why in a line, and finds everything when the folder can be written again."""
    create_topic(broker.address, "t", 1)
    filler = Filler(broker.address, "t")
    assert filler.send(20, LIMIT_S)
    broker.stop()
    assert _mount("-o", "remount,ro", str(disk))
    with pytest.raises(BrokerFailed):
        broker.start()
    assert "Read-only file system" in broker.last_words()
    assert "Traceback" not in broker.last_words()
    assert _mount("-o", "remount,rw", str(disk))
    broker.start()
    assert _stored(broker.address, "t", 20) == list(range(20))


def _refused(address: str, numbers: Iterable[int]) -> int | None:
    """The error with which the creation of one of some topics is refused."""
    admin = AdminClient({"bootstrap.servers": address})
    for number in numbers:
        created = admin.create_topics([NewTopic(f"more-{number}", 50, 1)], request_timeout=10)
        try:
            created[f"more-{number}"].result(LIMIT_S)
        except KafkaException as refused:
            code: int = refused.args[0].code()
            return code
    return None


def _fill(disk: Path) -> None:
    """Leave not a byte."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        piece = bytes(1 << 20)
        while piece:
            try:
                file.write(piece)
            except OSError:
                piece = piece[: len(piece) // 2]
