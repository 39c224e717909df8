"""The command `kpybroker`: its sub-commands by name, each imported when it is called.

Start-up is spent on imports, so this module imports nothing but click, and a sub-command pays only for itself.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
from collections.abc import Iterator
from typing import Final

import click

from kpybroker import __version__

COMMANDS: Final = {
    "cluster": "kpybroker.tools.cluster",
    "container": "kpybroker.tools.container",
    "format": "kpybroker.tools.format",
    "log": "kpybroker.tools.log",
    "ping": "kpybroker.tools.ping",
    "random-uuid": "kpybroker.tools.format",
    "serve": "kpybroker.tools.serve",
    "wire": "kpybroker.tools.wire",
}
"""Sub-command -> the module that has it, under the sub-command's name."""


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Many modules are imported here: what they make stays, and a collector that looks through it again and again takes
    a twentieth of a node's start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class LazyCommands(click.Group):
    """A group that knows its commands by name and imports one only to run it or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        with importing():
            module = importlib.import_module(COMMANDS[cmd_name])
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="kpybroker %(version)s")
def main() -> None:
    """A broker that Apache Kafka's clients and tools can talk to."""
