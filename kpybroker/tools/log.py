"""`kpybroker log`: look into the files of a log, and check them. Both work on a directory that is in use, or is not.

`verify` tells every flaw in a line. Its exit code: 0 nothing is wrong, 1 there are flaws, 2 it could not be done.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from kpybroker.cluster.quorum_state import FILE_NAME, read_quorum_state
from kpybroker.storage.errors import CorruptFile, StorageFailed
from kpybroker.storage.read_only import ReadOnlyFiles
from kpybroker.storage.verify import FileChecks, NothingToVerify, total_bytes, verify
from kpybroker.storage.verify_report import Finding, Report
from kpybroker.tools.log_dump import dump_command

FLAWS, FAILED = 1, 2

_QUORUM_STATE = (
    {"clusterId", "leaderId", "leaderEpoch", "votedId", "appliedOffset", "currentVoters", "data_version"},
    {"leaderId", "leaderEpoch", "votedId", "votedDirectoryId", "data_version"},
)


def check_quorum_state(data: bytes) -> None:
    """Whether it is what a voter writes, with nothing missing and nothing besides. Raises: CorruptFile."""
    read_quorum_state(data)
    said = json.loads(data)
    if said.keys() != _QUORUM_STATE[said["data_version"]]:
        raise CorruptFile(f"{FILE_NAME} has the fields {', '.join(sorted(said))}")


CHECKS: FileChecks = {FILE_NAME: check_quorum_state}


@click.group()
def log() -> None:
    """Look into the files of a log, and check them."""


log.add_command(dump_command)


@log.command("verify")
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Tell each flaw as a line of JSON.")
@click.option("--live/--stopped", default=None, help="Whether it is in use  [as its lock says]")
@click.option("--progress/--no-progress", default=None, help="A bar on standard error  [if that is a terminal]")
def verify_command(folders: Sequence[Path], as_json: bool, live: bool | None, progress: bool | None) -> None:
    """Check data directories, or folders of single partitions: batches, offsets, epochs, indexes, checkpoints.

    Nothing is changed and no lock is taken. Every flaw is a line with file, position and what is wrong. In a directory
    that is in use, what is just being written or taken away is no flaw. Exit code: 0 all is well, 1 there are flaws,
    2 it could not be done.
    """
    files = ReadOnlyFiles()
    show = sys.stderr.isatty() if progress is None else progress

    def tell(finding: Finding) -> None:
        if show:
            click.echo("\r\033[K", nl=False, err=True)  # the bar's line; it is drawn again with the next step
        click.echo(json.dumps(finding._asdict()) if as_json else str(finding))

    try:
        total = sum(total_bytes(str(folder), files) for folder in folders)
        with click.progressbar(length=total, file=sys.stderr, label="verifying", hidden=not show) as bar:
            report = Report(tell, bar.update)
            for folder in folders:
                verify(str(folder), files, report, live=live, checks=CHECKS)
    except (NothingToVerify, StorageFailed) as error:
        click.echo(f"kpybroker: {error}", err=True)
        sys.exit(FAILED)
    if report.seen:
        click.echo(f"{report.seen} flaws", err=True)
        sys.exit(FLAWS)
