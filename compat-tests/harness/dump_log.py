"""kafka-dump-log over a data directory: does Apache Kafka's own reader find every file of it whole?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.java_tools import DUMP_LOG, ToolHost

FLAWS = (
    "isvalid: false",
    "invalid bytes at the end",
    "Mismatches in",
    "Non-consecutive offsets",
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
    """What kafka-dump-log has to say against the files of a data directory. Nothing: they are whole."""
    found: list[str] = []
    for folder in sorted(data_dir.iterdir()):
        if folder.is_dir():
            for arguments in _dumps(folder):
                result = tools.run(DUMP_LOG, *arguments)
                said = [*_flawed_lines(result.out_path), *_flawed_lines(result.err_path)]
                found += [f"{folder.name}: {line}" for line in said]
                if result.code != 0:
                    found.append(f"{folder.name}: exit code {result.code}: {result.err[-500:]}")
    return found


def _dumps(folder: Path) -> Iterator[list[str]]:
    """The calls of the tool for one partition's folder: the logs record by record, and the indexes against the logs."""
    logs = _names(folder, "*.log")
    if not logs:
        return
    decoder = {"__consumer_offsets": ["--offsets-decoder"], "__cluster_metadata": ["--cluster-metadata-decoder"]}
    # A text is only walked through; an internal topic's records are also decoded, by the coordinator's own code.
    how = decoder.get(folder.name.rpartition("-")[0], ["--skip-record-metadata"])
    yield ["--deep-iteration", *how, "--files", logs]
    if snapshots := _names(folder, "*.checkpoint"):
        yield ["--cluster-metadata-decoder", "--files", snapshots]
    if others := _names(folder, "*.snapshot"):
        yield ["--files", others]
    if indexes := ",".join(filter(None, (_names(folder, "*.index"), _names(folder, "*.timeindex")))):
        yield ["--verify-index-only", "--files", indexes]
        yield ["--index-sanity-check", "--files", indexes]


def _names(folder: Path, pattern: str) -> str:
    return ",".join(str(path) for path in sorted(folder.glob(pattern)))


def _flawed_lines(path: Path) -> list[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        return [line.strip()[:500] for line in file if any(flaw in line for flaw in FLAWS)]
