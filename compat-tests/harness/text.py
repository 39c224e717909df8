"""A real text: the lines of the Python files of this installation, in a fixed order, as they stand in the files."""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path


def lines(count: int) -> list[bytes]:
    """The first `count` lines: standard library first, then site-packages, files in the order of their paths.

    Left out are lines with a carriage return, which Kafka's console tools take for a line's end, and lines that are not
    UTF-8, which they would change. Empty lines stay. When the installation has fewer lines, it starts over.
    """
    found = list(islice(_lines(), count))
    if not found:
        raise ValueError("this Python has no source files of its standard library")
    while len(found) < count:
        found += found[: count - len(found)]
    return found


def _lines() -> Iterator[bytes]:
    for path in _files():
        for line in path.read_bytes().split(b"\n"):
            if b"\r" not in line and _is_utf8(line):
                yield line


def _files() -> Iterator[Path]:
    paths = sysconfig.get_paths()
    library = Path(paths["stdlib"])
    yield from sorted(path for path in library.rglob("*.py") if "site-packages" not in path.parts)
    yield from sorted(Path(paths["purelib"]).rglob("*.py"))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def digest(lines: Iterable[bytes]) -> str:
    """SHA-256 of the sorted lines, each with its line end: what `sort | sha256sum` says of the text in the C locale."""
    sha = hashlib.sha256()
    for line in sorted(lines):
        sha.update(line + b"\n")
    return sha.hexdigest()
