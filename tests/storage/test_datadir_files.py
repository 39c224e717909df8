"""Every statement that the manifests make about files, held against the files as Apache Kafka left them."""

from collections import Counter
from pathlib import Path

import pytest

from kpybroker.storage.checkpoints import read_offsets, write_offsets
from kpybroker.storage.files import RealFiles
from kpybroker.storage.names import offset_of
from kpybroker.storage.offset_index import OffsetIndex
from kpybroker.storage.producer_snapshots import decode
from kpybroker.storage.time_index import TimeIndex
from kpybroker.storage.txn_index import TxnIndex

from .manifests import batches_of
from .test_datadirs import manifest_of, unpacked

FILES = RealFiles(sync=False)
WHOLE_LOG = 2**31 - 1


def stated(path: Path, file: dict, counts: Counter, *, bare: bool) -> dict:
    """What a file holds, in the words of the manifest; `bare`: of indexes it says the size only."""
    found = {"name": path.name, "size": path.stat().st_size}
    counts["files"] += 1
    if path.suffix in (".log", ".checkpoint"):
        found["batches"] = list(batches_of(path.read_bytes(), path.parent.name.rpartition("-")[0]))
        counts["batches"] += len(found["batches"])
        counts["decoded records"] += sum(len(batch.get("records", ())) for batch in found["batches"])
    elif path.suffix in (".index", ".timeindex"):
        entries = entries_of(path)
        if entries and not bare:
            found["entries"] = [list(entry) for entry in entries]
            counts["index entries"] += len(entries)
    elif path.suffix == ".snapshot":
        found["producers"] = producers_of(path)
        counts["producers"] += len(found["producers"])
    elif path.suffix == ".txnindex":
        index = TxnIndex(FILES, str(path), offset_of(path.name, ".txnindex"), exists=True)
        found["aborted"] = [entry._asdict() for entry in index.entries]
        counts["aborted transactions"] += len(found["aborted"])
    elif "text" in file:
        found["text"] = path.read_text()
    return found


def entries_of(path: Path) -> list[tuple[int, int]]:
    base = offset_of(path.name, path.suffix)
    if path.suffix == ".index":
        index = OffsetIndex(FILES, str(path), base)
        index.load(WHOLE_LOG)
        return index.entries
    times = TimeIndex(FILES, str(path), base)
    times.load()
    return times.entries


def producers_of(path: Path) -> list[dict]:
    return [
        {
            "producer_id": producer.producer_id,
            "epoch": producer.epoch,
            "last_sequence": producer.last_sequence,
            "last_data_offset": producer.last_offset,
            "last_timestamp": producer.last_timestamp,
            "coordinator_epoch": producer.coordinator_epoch,
            "txn_start": producer.transaction_start,
            "first_data_offset": producer.batches[-1].first_offset if producer.batches else -1,
        }
        for producer in decode(path.read_bytes())
    ]


@pytest.mark.parametrize("name", ["clean", "killed", "snapshot"])
def test_every_statement_about_files(name, tmp_path):
    folder = unpacked(name, tmp_path)
    files = manifest_of(name)["files"]
    counts = Counter()
    bare = name == "killed"  # its indexes were in use: some have zeros at their end, some are to be rebuilt
    for log in files["logs"]:
        described = {file["name"] for file in log["files"]}
        assert described == {path.name for path in (folder / log["dir"]).iterdir()}, log["dir"]
        for file in log["files"]:
            where = (log["dir"], file["name"])
            assert stated(folder / log["dir"] / file["name"], file, counts, bare=bare) == file, where
    for file, text in files["top_level_files"].items():
        counts["files"] += 1
        data = (folder / file).read_bytes()
        assert text is None or data.decode() == text, file
        if file.endswith("-offset-checkpoint"):
            offsets = read_offsets(data)
            counts["checkpointed offsets"] += len(offsets)
            assert write_offsets(offsets) == data
    assert {path.name for path in folder.iterdir()} == {
        *files["top_level_files"],
        *(log["dir"] for log in files["logs"]),
    }
    assert dict(counts) == COUNTS[name]


COUNTS = {
    "clean": {
        "files": 386,
        "batches": 658,
        "decoded records": 569,
        "index entries": 178,
        "producers": 10,
        "aborted transactions": 11,
        "checkpointed offsets": 76,
    },
    "killed": {
        "files": 414,
        "batches": 845,
        "decoded records": 732,
        "producers": 12,
        "aborted transactions": 14,
        "checkpointed offsets": 77,
    },
    "snapshot": {
        "files": 448,
        "batches": 1216,
        "decoded records": 3297,
        "index entries": 191,
        "producers": 10,
        "aborted transactions": 11,
        "checkpointed offsets": 76,
    },
}
"""So that nothing is left out unnoticed."""
