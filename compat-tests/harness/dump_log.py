"""kafka-dump-log over a data directory: does Apache Kafka's own reader find every file of it whole?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.java_tools import DUMP_LOG, ToolHost

GAPS = "Non-consecutive offsets in "
FOLLOWED = re.compile(r"  (-?\d+) is followed by (\d+)")
BEFORE_THE_FIRST = "-1"
"""The tool begins to count at 0, also in a segment that begins later."""

FLAWS = (
    "isvalid: false",
    "invalid bytes at the end",
    "Mismatches in",
    "timestamp mismatch",
    "out of order timestamp",
    "indexed offsets are not found",
    "Could not read",
    "unreadable",
    "Error at",
    "Exception",
)
"""What the tool says of a file that is not as it should be; it ends with 0 all the same."""


def flaws(tools: ToolHost, data_dir: Path) -> list[str]:
    """What kafka-dump-log has to say against the files of a data directory. Nothing: they are whole.

    Folders of deleted topics are left out: their indexes stay as they were in use, with unused space at the end. A log
    that was compacted may have gaps in its offsets.
    """
    found: list[str] = []
    compacted = _compacted(data_dir)
    for arguments in _dumps(data_dir):
        result = tools.run(DUMP_LOG, *arguments)
        found += [*_flawed_lines(result.out_path), *_flawed_lines(result.err_path)]
        if result.code != 0:
            last = result.out.rpartition("Dumping ")[2].split("\n")[0]
            found.append(f"{arguments[:-1]} at {last}: exit code {result.code}: {result.err[-500:]}")
    return [flaw for flaw in found if not (GAPS in flaw and Path(flaw).parent.name in compacted)]


def _compacted(data_dir: Path) -> set[str]:
    """The folders of the partitions that were ever compacted."""
    checkpoint = data_dir / "cleaner-offset-checkpoint"
    lines = checkpoint.read_text().splitlines()[2:] if checkpoint.exists() else []
    return {"-".join(line.split()[:2]) for line in lines}


def _dumps(data_dir: Path) -> Iterator[list[str]]:
    """The calls of the tool: the logs record by record, and the indexes against the logs.

    A text is only walked through; an internal topic's records are also decoded, by the coordinator's own code.
    """
    decoders = {"__consumer_offsets": "--offsets-decoder", "__cluster_metadata": "--cluster-metadata-decoder"}
    logs: dict[str, list[Path]] = {}
    for log in _files(data_dir, "*.log"):
        how = decoders.get(log.parent.name.rpartition("-")[0], "--skip-record-metadata")
        logs.setdefault(how, []).append(log)
    for how, paths in logs.items():
        yield ["--deep-iteration", how, "--files", _names(paths)]
    if snapshots := _files(data_dir, "*.checkpoint"):
        yield ["--deep-iteration", "--cluster-metadata-decoder", "--files", _names(snapshots)]
    if producers := _files(data_dir, "*.snapshot"):
        yield ["--deep-iteration", "--files", _names(producers)]
    if indexes := [*_files(data_dir, "*.index"), *_files(data_dir, "*.timeindex")]:
        yield ["--verify-index-only", "--files", _names(indexes)]
        yield ["--index-sanity-check", "--files", _names(indexes)]


def _files(data_dir: Path, pattern: str) -> list[Path]:
    """In the folders of partitions, those of deleted topics left out."""
    return [path for path in sorted(data_dir.glob(f"*/{pattern}")) if not path.parent.name.endswith("-delete")]


def _names(paths: list[Path]) -> str:
    return ",".join(map(str, paths))


def _flawed_lines(path: Path) -> Iterator[str]:
    """The lines that tell of a flaw, each with the file that the tool was at."""
    at = gaps_in = ""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("Dumping "):
                at = "/".join(Path(line.split()[1]).parts[-2:])
            elif line.startswith(GAPS):
                gaps_in = line.strip()
            elif (gap := FOLLOWED.fullmatch(line.rstrip("\n"))) and gap[1] != BEFORE_THE_FIRST:
                yield f"{gap[0]}: {gaps_in}"
            if any(flaw in line for flaw in FLAWS):
                yield f"{at}: {line.strip()[:500]}"
