"""Data directories that Apache Kafka 4.3.1 left: shut down cleanly, killed, and damaged by hand.

The manifests say what is in them: what the live broker answered, what is in every file, and for the killed and the
damaged one what Kafka made of them when it started again.
"""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import NamedTuple

import pytest

from kpybroker.storage.checkpoints import read_epochs
from kpybroker.storage.data_dir import DataDir, OffsetCheckpoint
from kpybroker.storage.files import RealFiles
from kpybroker.storage.log import Log
from kpybroker.storage.names import offset_of
from kpybroker.storage.offset_index import OffsetIndex
from kpybroker.storage.producer_snapshots import decode
from kpybroker.storage.time_index import TimeIndex
from kpybroker.storage.txn_index import TxnIndex
from kpybroker.wire.primitives import uuid_text
from kpybroker.wire.records.batch import iter_headers, iter_records, read_header

from .compacting import compact, stable
from .making import config
from .manifests import batches_of, record_of

DATA = Path(__file__).parents[1] / "data" / "datadirs"
FILES = RealFiles(sync=False)


def manifest_of(name: str) -> dict:
    return json.loads(gzip.decompress((DATA / f"{name}.manifest.json.gz").read_bytes()))


def unpacked(name: str, folder: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO((DATA / f"{name}.tar.gz").read_bytes())) as archive:
        archive.extractall(folder, filter="data")
    return folder


class Opened:
    """All logs of a data directory, opened as a node would."""

    def __init__(self, name: str, folder: Path) -> None:
        self.manifest = manifest_of(name)
        self.live = self.manifest.get("live_after_recovery") or self.manifest["live"]
        self.now_ms = self.live["t0"] + 3_600_000
        self.dir = DataDir(unpacked(name, folder), FILES)
        stop = self.dir.take_clean_stop()
        self.clean = stop is not None
        points = self.dir.read_offsets(OffsetCheckpoint.RECOVERY_POINTS)
        starts = self.dir.read_offsets(OffsetCheckpoint.LOG_STARTS)
        self.overrides = {topic["name"]: topic["config_overrides"] for topic in self.live["topics"]}
        self.logs = {
            (found.topic, found.partition): self.open(
                found.topic,
                found.path,
                points.get((found.topic, found.partition), 0),
                starts.get((found.topic, found.partition), 0),
            )
            for found in self.dir.partitions()
        }

    def open(self, topic: str, path: str, recovery_point: int, log_start_offset: int) -> Log:
        overrides = self.overrides.get(topic, {})
        settings = config(
            index_interval_bytes=int(overrides.get("index.interval.bytes", 4096)),
            index_bytes_max=65536,
            compacted="compact" in overrides.get("cleanup.policy", ""),
        )
        return Log.open(
            path,
            config=settings,
            files=FILES,
            clean=self.clean,
            recovery_point=recovery_point,
            log_start_offset=log_start_offset,
            now_ms=self.now_ms,
        )

    def reopen(self, log: Log) -> Log:
        """Open again a log that was closed cleanly."""
        return Log.open(
            log.directory,
            config=log.config,
            files=FILES,
            clean=True,
            recovery_point=log.recovery_point,
            log_start_offset=log.log_start_offset,
            now_ms=self.now_ms,
        )

    def partitions(self):
        for topic in self.live["topics"]:
            for partition in topic["partitions"]:
                yield topic, partition, self.logs[topic["name"], partition["partition"]]


@pytest.fixture(params=["clean", "killed", "torn", "snapshot"])
def opened(request, tmp_path):
    opened = Opened(request.param, tmp_path)
    yield opened
    for log in opened.logs.values():
        log.close(clean=False)
    opened.dir.close()


def test_every_partition_is_found(opened):
    assert {(topic["name"], partition["partition"]) for topic, partition, _ in opened.partitions()} == set(opened.logs)
    assert opened.clean == (opened.manifest["name"] in ("clean", "snapshot"))
    assert opened.dir.meta.cluster_id == opened.live["cluster_id"]
    opened.dir.check_owner(opened.manifest["node_id"], opened.live["cluster_id"])


def test_offsets_and_ids(opened):
    for topic, partition, log in opened.partitions():
        where = (topic["name"], partition["partition"])
        assert uuid_text(log.topic_id) == topic["id"], where
        assert log.log_start_offset == partition["log_start_offset"], where
        assert log.log_end_offset == partition["high_watermark"], where
        log.producers.replicated_to(log.log_end_offset)
        stable = log.log_end_offset if log.first_unstable_offset is None else log.first_unstable_offset
        assert stable == partition["last_stable_offset"], where


def test_records(opened):
    for topic, partition, log in opened.partitions():
        where = (topic["name"], partition["partition"])
        if "records" not in partition:
            continue
        assert records_of(log) == partition["records"], where


def records_of(log: Log) -> list[dict]:
    found = []
    offset = log.log_start_offset
    while (region := log.read(offset, bytes_max=700, end_offset=log.log_end_offset).region) is not None:
        data = region.read()
        for position, header in iter_headers(data):
            if not header.is_control:
                found += [
                    record_of(record, header) for record in iter_records(data, position) if record.offset >= offset
                ]
            offset = header.last_offset + 1
    return found


def test_lookups(opened):
    for topic, partition, log in opened.partitions():
        where = (topic["name"], partition["partition"])
        latest = log.max_timestamp()
        assert ([latest.timestamp, latest.offset] if latest else [-1, -1]) == partition["max_timestamp"], where
        for timestamp, offset, found_timestamp in partition["offset_for_timestamp"]:
            found = log.offset_for_timestamp(timestamp)
            if offset is None or offset < 0:
                assert found is None, where
            else:
                assert (found.offset, found.timestamp) == (offset, found_timestamp), where


def test_hidden_offsets(opened):
    """What read_committed must not see follows from the aborted transactions and the markers."""
    for topic, partition, log in opened.partitions():
        if "offsets_hidden_from_read_committed" not in partition:
            continue
        hidden = set(partition["offsets_hidden_from_read_committed"])
        stable = partition["last_stable_offset"]
        aborted = log.aborted_transactions(log.log_start_offset, log.log_end_offset)
        found = set()
        for record, header in flat_records(log):
            inside = any(
                txn.producer_id == header.producer_id and txn.first_offset <= record.offset <= txn.last_offset
                for txn in aborted
            )
            if not header.is_control and (record.offset >= stable or (header.is_transactional and inside)):
                found.add(record.offset)
        assert found == hidden, (topic["name"], partition["partition"])


def flat_records(log: Log):
    offset = log.log_start_offset
    while (region := log.read(offset, bytes_max=1 << 20, end_offset=log.log_end_offset).region) is not None:
        data = region.read()
        for position, header in iter_headers(data):
            for record in iter_records(data, position):
                if record.offset >= log.log_start_offset:
                    yield record, header
            offset = header.last_offset + 1


def test_producers(opened):
    for topic, partition, log in opened.partitions():
        found = [
            {
                "producer_id": producer.producer_id,
                "epoch": producer.epoch,
                "last_sequence": producer.last_sequence,
                "last_timestamp": producer.last_timestamp,
                "coordinator_epoch": producer.coordinator_epoch,
                "txn_start": producer.transaction_start,
            }
            for producer in sorted(log.producers.active.values(), key=lambda producer: producer.producer_id)
        ]
        assert found == sorted(partition["producers"], key=lambda p: p["producer_id"]), (
            topic["name"],
            partition["partition"],
        )


def test_the_files_after_a_clean_stop_are_those_that_kafka_leaves(opened):
    """Closing leaves the same epochs, index entries, aborted transactions and producers as Kafka has left."""
    after = opened.manifest.get("files_after_recovery") or opened.manifest["files"]
    of_folder = {log["dir"]: {file["name"]: file for file in log["files"]} for log in after["logs"]}
    for topic, partition, log in opened.partitions():
        name = f"{topic['name']}-{partition['partition']}"
        expected = of_folder[name]
        epochs = read_epochs(expected["leader-epoch-checkpoint"]["text"].encode())
        log.epochs.assign(*epochs[-1])  # Kafka begins a leader epoch at its end when it has opened a log
        log.close()
        folder = Path(log.directory)
        assert read_epochs((folder / "leader-epoch-checkpoint").read_bytes()) == epochs, name
        written = {path.name for path in folder.iterdir() if not path.name.startswith("dropped-")}
        written -= {"leader-epoch-checkpoint", "partition.metadata"}
        assert written == set(expected) - {"leader-epoch-checkpoint", "partition.metadata"} - superfluous(log), name
        for file in sorted(written):
            assert content(folder / file, expected[file]) is True, (name, file)


def superfluous(log: Log) -> set[str]:
    """Snapshots up to the log start are removed when a log is opened; DeleteRecords alone leaves them."""
    return {f"{offset:020d}.snapshot" for offset in range(log.log_start_offset + 1)}


def content(path: Path, expected: dict):
    """True if a file holds what the manifest says, otherwise what it holds."""
    if path.suffix == ".snapshot":
        found = [
            [p.producer_id, p.epoch, p.last_sequence, p.last_offset, p.last_timestamp, p.coordinator_epoch,
             p.transaction_start]
            for p in decode(path.read_bytes())
        ]  # fmt: skip
        names = ["producer_id", "epoch", "last_sequence", "last_data_offset", "last_timestamp", "coordinator_epoch",
                 "txn_start"]  # fmt: skip
        wanted = [[producer[name] for name in names] for producer in expected["producers"]]
        return sorted(found) == sorted(wanted) or found
    if path.suffix == ".log":
        data = path.read_bytes()
        found = list(batches_of(data, path.parent.name.rpartition("-")[0]))
        return (found == expected["batches"] and len(data) == expected["size"]) or found
    base = offset_of(path.name, path.suffix)
    if path.suffix == ".txnindex":
        entries = [list(entry) for entry in TxnIndex(FILES, str(path), base, exists=True).entries]
        names = ["producer_id", "first_offset", "last_offset", "last_stable_offset"]
        return entries == [[entry[name] for name in names] for entry in expected["aborted"]] or entries
    if path.suffix == ".index":
        index = OffsetIndex(FILES, str(path), base)
        index.load(1 << 31)
    else:
        index = TimeIndex(FILES, str(path), base)
        index.load()
    entries = [list(entry) for entry in index.entries]
    if path.stat().st_size != len(entries) * index.file.entry_bytes:
        return "the file was not trimmed"
    return entries == expected.get("entries", []) or entries


def test_what_kafka_wrote_survives_compaction(opened):
    """Committed keys, where read_committed may go, and producers; also in topics that Kafka itself never compacts."""
    compacted = 0
    for topic, partition, log in opened.partitions():
        where = (topic["name"], partition["partition"])
        log.roll(opened.now_ms)
        log.config = config(compacted=True)
        before = committed(log)
        compacted += compact(log, now_ms=opened.now_ms)
        after = committed(log)
        assert (after.latest, after.start, after.end, after.stable) == (
            before.latest,
            before.start,
            before.end,
            before.stable,
        ), where
        assert after.bytes <= before.bytes
        producers = dict(log.producers.active)
        log.close()
        again = opened.reopen(log)
        opened.logs[where] = again
        assert committed(again) == after, where
        assert again.producers.active.keys() == producers.keys()
    assert compacted == 32, "logs with something to compact in them"


class Committed(NamedTuple):
    """What a reader of committed records comes to know of a log."""

    latest: dict
    start: int
    end: int
    stable: int
    bytes: int


def committed(log: Log) -> Committed:
    """Of each key the latest record that is not a tombstone, and its offset, timestamp and headers."""
    end = stable(log)
    aborted = log.aborted_transactions(log.log_start_offset, log.log_end_offset)
    latest = {}
    for record, header in flat_records(log):
        inside = any(
            txn.producer_id == header.producer_id and txn.first_offset <= record.offset <= txn.last_offset
            for txn in aborted
        )
        if header.is_control or record.offset >= end or (header.is_transactional and inside) or record.key is None:
            continue
        if record.value is None:
            latest.pop(bytes(record.key), None)
        else:
            found = (record.offset, record.timestamp, bytes(record.value), [tuple(each) for each in record.headers])
            latest[bytes(record.key)] = found
    return Committed(latest, log.log_start_offset, log.log_end_offset, end, log.size_bytes)


@pytest.mark.parametrize("name", ["clean", "killed", "torn", "snapshot"])
def test_the_metadata_log(name, tmp_path):
    """Its recovery point is in no checkpoint; a snapshot may have taken the place of its first segments."""
    manifest = manifest_of(name)
    folder = unpacked(name, tmp_path) / "__cluster_metadata-0"
    log = Log.open(folder, config=config(), files=FILES, clean=False, recovery_point=0, now_ms=manifest_t0(manifest))
    files = (manifest.get("files") or manifest["files_after_recovery"])["logs"]
    (described,) = [found for found in files if found["dir"] == "__cluster_metadata-0"]
    batches = [batch for file in described["files"] if file["name"].endswith(".log") for batch in file["batches"]]
    if name == "torn":  # its manifest only has what a later start added to
        batches = [batch for batch in batches if batch["base_offset"] < log.log_end_offset]
    found = []
    offset = log.log_start_offset
    while (region := log.read(offset, bytes_max=1 << 20, end_offset=log.log_end_offset).region) is not None:
        found += [(header.base_offset, header.last_offset, header.crc) for _, header in iter_headers(region.read())]
        offset = found[-1][1] + 1
    assert found == [(batch["base_offset"], batch["last_offset"], batch["crc"]) for batch in batches]
    assert uuid_text(log.topic_id) == "AAAAAAAAAAAAAAAAAAAAAQ"
    log.close(clean=False)


def manifest_t0(manifest: dict) -> int:
    return (manifest.get("live_after_recovery") or manifest["live"])["t0"]


def test_a_killed_directory_has_preallocated_indexes(tmp_path):
    """The proof that the tail of zeros is met at all."""
    folder = unpacked("killed", tmp_path)
    index = folder / "txn-0" / "00000000000000000000.index"
    assert index.stat().st_size == 65536
    assert read_header((folder / "txn-0" / "00000000000000000000.log").read_bytes()).base_offset == 0
