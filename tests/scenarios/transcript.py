"""Transcripts: files in which commands stand with what they lead to, paragraph by paragraph, and are held to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest


class Teller(Protocol):
    """Who carries out the commands of a transcript."""

    def tell(self, line: str) -> list[str]:
        """Carry out one command; what happens, in lines."""
        ...

    def check(self) -> None:
        """Called after each paragraph: whatever must be so then."""
        ...


def hold(path: Path, story: Teller, pytestconfig: pytest.Config) -> None:
    """Hold a transcript to what happens now; with --rewrite, write that down instead."""
    told = path.read_text()
    happened = "\n\n".join(_blocks(told, story)) + "\n"
    if pytestconfig.getoption("--rewrite"):
        path.write_text(happened)
    else:
        assert happened == told


def _blocks(text: str, story: Teller) -> Iterator[str]:
    """Each paragraph with what happens now in place of what it says happened."""
    for block in text.strip("\n").split("\n\n"):
        commands = block.split("\n----", 1)[0]
        lines = [line for line in commands.split("\n") if line and not line.startswith("#")]
        effects = [each for line in lines for each in story.tell(line)]
        yield "\n".join([commands, "----", *effects]) if lines else commands
        story.check()
