"""The command `kpybroker`: its sub-commands by name, each imported when it is called.

Start-up is spent on imports, so this module imports nothing but click, and a sub-command pays only for itself.
"""

from __future__ import annotations

import importlib
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


class LazyCommands(click.Group):
    """A group that knows its commands by name and imports one only to run it or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="kpybroker %(version)s")
def main() -> None:
    """A broker that Apache Kafka's clients and tools can talk to."""
