"""`kpybroker log`: what it prints, and its exit codes."""

import gzip
import json
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from kpybroker.tools.cli import main

DATA = Path(__file__).parents[1] / "data" / "datadirs"


def manifest_of(name: str) -> dict:
    return json.loads(gzip.decompress((DATA / f"{name}.manifest.json.gz").read_bytes()))


def unpacked(name: str, folder: Path) -> Path:
    with tarfile.open(DATA / f"{name}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["log", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def dumped(*arguments, code=0) -> list[dict]:
    return [json.loads(line) for line in run("dump", "--json", *arguments, code=code).stdout.splitlines()]


def of_kind(items: list[dict], kind: str) -> list[dict]:
    return [item for item in items if item["is"] == kind]


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    return unpacked("clean", tmp_path_factory.mktemp("clean"))


def test_verify(clean, tmp_path):
    assert run("verify", clean).stdout == ""
    assert run("verify", clean / "txn-0", clean / "__cluster_metadata-0").stdout == ""
    assert "neither a data directory" in run("verify", tmp_path, code=2).stderr
    torn = unpacked("torn", tmp_path / "torn")
    lines = run("verify", torn, code=1).stdout.splitlines()
    found = [json.loads(line) for line in run("verify", "--json", torn, code=1).stdout.splitlines()]
    assert len(found) == len(lines)
    assert set(found[0]) == {"file", "position", "what"}


def test_the_state_of_the_quorum_is_checked(tmp_path):
    folder = unpacked("clean", tmp_path)
    (folder / "__cluster_metadata-0/quorum-state").write_text('{"leaderId":1')
    assert "quorum-state can't be read" in run("verify", folder, code=1).stdout


@pytest.mark.parametrize("name", ["clean", "snapshot"])
def test_dump_has_all_that_the_manifest_says(name, tmp_path):
    folder = unpacked(name, tmp_path)
    for log in manifest_of(name)["files"]["logs"]:
        for file in log["files"]:
            items = dumped(folder / log["dir"] / file["name"])
            if "batches" in file:
                found = [(b["position"], b["offset"], b["last_offset"], b["crc"]) for b in of_kind(items, "batch")]
                assert found == [
                    (b["position"], b["base_offset"], b["last_offset"], b["crc"]) for b in file["batches"]
                ], file["name"]
            elif file["name"].endswith(".index"):
                found = [[entry["offset"], entry["position"]] for entry in of_kind(items, "offset entry")]
                assert found == file.get("entries", [])
            elif file["name"].endswith(".timeindex"):
                found = [[entry["timestamp"], entry["offset"]] for entry in of_kind(items, "time entry")]
                assert found == file.get("entries", [])
            elif "producers" in file:
                found = {(p["producer_id"], p["last_sequence"]) for p in of_kind(items, "producer")}
                assert found == {(p["producer_id"], p["last_sequence"]) for p in file["producers"]}


def test_records_of_internal_topics_are_decoded(clean):
    items = dumped("--records", *clean.glob("__consumer_offsets-*"), clean / "__cluster_metadata-0")
    assert not of_kind(items, "batch")
    records = of_kind(items, "record")
    assert any(item.get("OffsetCommitKey", {}).get("topic") for item in records)
    topics = {item["TopicRecord"]["name"] for item in records if "TopicRecord" in item}
    assert "plain-gzip" in topics
    states = of_kind(dumped(*clean.glob("__transaction_state-*")), "record")
    assert {"TransactionLogKey", "TransactionLogValue"} <= set(states[0])
    assert "value" in of_kind(dumped("--raw", *clean.glob("__transaction_state-*")), "record")[0]


def test_forms(clean):
    file = next((clean / "txn-0").glob("*.log"))
    text = of_kind(dumped("--records", file), "record")
    assert text[0]["key"] == "b-0"
    assert text[0]["headers"][0] == ["trace", "id-829"]
    assert of_kind(dumped("--records", "--keys", "hex", file), "record")[0]["key"] == {"hex": b"b-0".hex()}
    assert any(item.get("control") == "ABORT" for item in text)
    assert not of_kind(dumped("--batches", file), "record")
    assert of_kind(dumped("--from-offset", "40", file), "record")[0]["offset"] == 40


def test_a_whole_directory_as_text(clean):
    output = run("dump", clean).stdout
    assert "leader epoch  epoch 0" in output
    assert "topic_id" in output
    assert "directory_id" in output
    assert "flaw" not in output


def test_flaws_are_told(tmp_path):
    items = dumped(unpacked("torn", tmp_path), code=1)
    assert len(of_kind(items, "flaw")) >= 4
    assert of_kind(dumped(unpacked("killed", tmp_path / "killed")), "flaw") == []
