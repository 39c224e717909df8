"""`kpybroker log dump`: what is in the files of a log, readable or as JSON lines.

Every line is one thing: a file, a batch, a record, an entry of an index or a checkpoint, a producer, an epoch, or a
flaw. Nothing is changed and no lock is taken, so files may grow or vanish meanwhile: what was there is told.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from kpybroker.storage.errors import CorruptFile, StorageFailed
from kpybroker.storage.read_only import ReadOnlyFiles
from kpybroker.tools.log_files import Item, Shown, batches_of, files_in, small_file_of
from kpybroker.tools.log_values import Form

DAMAGED, FAILED = 1, 2


@click.command("dump")
@click.argument(
    "paths", metavar="FILE|FOLDER...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
@click.option("--json", "as_json", is_flag=True, help="Lines of JSON.")
@click.option("--batches", is_flag=True, help="Of batches, their headers only.")
@click.option("--records", is_flag=True, help="Of batches, their records only.")
@click.option("--keys", type=click.Choice(list(Form)), default=Form.TEXT, help="How keys are shown  [text]")
@click.option("--values", type=click.Choice(list(Form)), default=Form.TEXT, help="How values are shown  [text]")
@click.option("--from-offset", type=int, default=0, help="Leave out batches that end before this offset.")
@click.option("--raw", is_flag=True, help="Don't decode the records of the broker's own topics.")
def dump_command(
    paths: Sequence[Path],
    as_json: bool,
    batches: bool,
    records: bool,
    keys: str,
    values: str,
    from_offset: int,
    raw: bool,
) -> None:
    """Show what is in the files of a log: segments, indexes, producer snapshots, checkpoints, metadata snapshots.

    A folder is shown file by file, a partition's or a whole data directory. Records of __consumer_offsets,
    __transaction_state, __share_group_state and __cluster_metadata are decoded. Exit code: 0, or 1 if something can't
    be read.
    """
    shown = Shown(
        batches=batches or not records,
        records=records or not batches,
        keys=Form(keys),
        values=Form(values),
        from_offset=from_offset,
        raw=raw,
    )
    damaged = False
    try:
        for item in _items(paths, shown):
            damaged |= item["is"] == "flaw"
            sys.stdout.write((json.dumps(item, ensure_ascii=False) if as_json else readable(item)) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        sys.stderr.close()
    except StorageFailed as error:
        click.echo(f"kpybroker: {error}", err=True)
        sys.exit(FAILED)
    if damaged:
        sys.exit(DAMAGED)


def _items(paths: Sequence[Path], shown: Shown) -> Iterator[Item]:
    files = ReadOnlyFiles()
    for path in paths:
        inside = path.is_dir()
        for file in files_in(path) if inside else [path]:
            try:
                yield {"is": "file", "path": str(file), "bytes": files.size(str(file))}
                if small_file_of(file) is None:
                    yield from batches_of(file, shown, files)
                else:
                    yield from _small(file, files)
            except StorageFailed as error:
                if not (inside and error.missing):
                    raise


def _small(path: Path, files: ReadOnlyFiles) -> Iterator[Item]:
    read = small_file_of(path)
    assert read is not None
    try:
        yield from read(path, files.read_whole(str(path)) or b"")
    except (CorruptFile, ValueError) as error:
        yield {"is": "flaw", "what": str(error)}


def readable(item: Item) -> str:
    """An item as a line for people."""
    rest = {name: value for name, value in item.items() if name != "is"}
    match item["is"]:
        case "file":
            return f"{rest['path']} ({rest['bytes']} bytes)"
        case "flaw":
            at = f" at byte {rest['position']}" if "position" in rest else ""
            return f"  !! flaw{at}: {rest['what']}"
        case "record":
            return "    " + "  ".join(f"{name} {_word(value)}" for name, value in rest.items())
        case kind:
            return f"  {kind}  " + "  ".join(f"{name} {_word(value)}" for name, value in rest.items())


def _word(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) and value.isprintable() and value else json.dumps(value, ensure_ascii=False)
