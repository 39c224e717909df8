"""What a node imports to start. Start-up time and memory at rest are nearly all imports, so the list is held."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SERVE = """
import sys
from kpybroker.tools import serve
from kpybroker.tools.cli import main

welcome = serve.welcome
serve.welcome = lambda *arguments: welcome(*arguments) + "\\nloaded: " + " ".join(sorted(sys.modules))
main()
"""

THIRD_PARTY = {"attr", "attrs", "click", "crc32c", "idna", "msgspec", "outcome", "sniffio", "sortedcontainers", "trio"}
THIRD_PARTY |= {"typing_extensions"}  # msgspec's, where it is installed
"""The distributions' modules that a node may have loaded once it serves: those it cannot start without."""

NOT_BEFORE_USE = {
    "asyncio",
    "cramjam",
    "difflib",
    "google",
    "h11",
    "http",
    "javaproperties",
    "kpybroker.config.describe",
    "kpybroker.coordinators.machines.shard",
    "kpybroker.coordinators.machines.transaction_shard",
    "kpybroker.metrics.http",
    "kpybroker.metrics.otlp",
    "kpybroker.metrics.prometheus",
    "kpybroker.testing",
    "kpybroker.wire.json_form",
    "lz4",
    "opentelemetry",
    "pkgutil",
    "prometheus_client",
    "rich",
    "unittest",
    "xml",
    "zstandard",
}
"""Modules that something on the way could pull in, and that come at their first use."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules in a process that has just said that it serves."""
    folder = tmp_path_factory.mktemp("data")
    command = [sys.executable, "-c", SERVE, "serve", "--listen", "localhost:0", "--data-dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        names: list[str] = []
        for line in process.stdout:
            if line.startswith("loaded: "):
                names = line.split()[1:]
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    return set(names)


def test_distributions(loaded: set[str]) -> None:
    ours = {"kpybroker", "__main__", "__mp_main__", "_distutils_hack", "sitecustomize", "usercustomize"}
    top = {name.partition(".")[0] for name in loaded} - ours
    stdlib = sys.stdlib_module_names
    foreign = {name for name in top if name not in stdlib and not name.startswith(("__editable__", "_"))}
    assert foreign <= THIRD_PARTY


def test_what_comes_at_its_first_use(loaded: set[str]) -> None:
    assert NOT_BEFORE_USE & loaded == set()


def test_messages_that_nobody_has_sent_are_not_loaded(loaded: set[str]) -> None:
    """The codecs of an API come with its first request; a start needs those of its own records and of what it asks."""
    messages = {name.rpartition(".")[2] for name in loaded if name.startswith("kpybroker.wire.messages.")}
    listed = Path(__file__).with_name("messages_at_start.txt").read_text().split()
    assert messages <= set(listed)
