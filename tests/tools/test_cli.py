"""The command line: what it imports, what it refuses and how, how it starts a node and how signals stop one.

The node is a stand-in here, so that starting, failing and hanging can be had at will.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kpybroker import __version__
from kpybroker.config import BrokerConfig
from kpybroker.tools.cli import COMMANDS, main
from kpybroker.tools.serve import welcome

NODE = """
import sys, types
import trio
from kpybroker.endings import StartupFailed

async def serve(config, *, stop, cluster_id, task_status):
    {startup}
    task_status.started(config.reachable.brokers)
    await stop.wait()
    {after}

sys.modules["kpybroker.node"] = types.SimpleNamespace(serve=serve)
from kpybroker.tools.cli import main
main()
"""


def command(*arguments: str, startup: str = "pass", after: str = "pass") -> list[str]:
    """The command line of a process that runs `kpybroker` with a stand-in for the node."""
    return [sys.executable, "-c", NODE.format(startup=startup, after=after), *arguments]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"kpybroker {__version__}\n")


def test_it_is_a_module_too() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "kpybroker", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"kpybroker {__version__}\n"


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.output
    assert run("serve", "--help").exit_code == 0


def test_a_command_that_is_not_there() -> None:
    result = run("nothing")
    assert result.exit_code == 2
    assert "No such command 'nothing'" in result.output


@pytest.mark.parametrize(
    ("arguments", "foreign"),
    [
        pytest.param(["--version"], {"trio", "msgspec", "kpybroker.config", "importlib.metadata"}, id="none"),
        pytest.param(["wire", "--help"], {"trio", "asyncio", "kpybroker.config"}, id="wire"),
        pytest.param(["serve", "--help"], {"asyncio", "javaproperties", "kpybroker.node", "difflib"}, id="serve"),
    ],
)
def test_a_command_imports_what_it_needs(arguments: list[str], foreign: set[str]) -> None:
    code = f"""
import sys
from kpybroker.tools.cli import main
main({arguments}, standalone_mode=False)
print("loaded:", *sys.modules)
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = output.rpartition("loaded: ")[2].split()
    assert foreign.isdisjoint(loaded), foreign & set(loaded)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--set", "num.partitions"], "'num.partitions' is not KEY=VALUE"),
        (["--set", "=3"], "'=3' is not KEY=VALUE"),
        (["--listen", "localhost"], "'localhost' is not HOST:PORT"),
        (["--listen", "localhost:x"], "'localhost:x' is not HOST:PORT"),
        (["--listen", "localhost:65536"], "'localhost:65536' is not HOST:PORT"),
        (["--listen", "::1:9092"], "'::1:9092' is not HOST:PORT"),
        (["--listen", "localhost:1", "--config", "x"], "--listen is for a node without --config and --env"),
        (["--listen", "localhost:1", "--env"], "--listen is for a node without --config and --env"),
        (["--data-dir", "a,b"], "cannot have a comma in it"),
        (["--log-level", "loud"], "'loud' is not one of"),
        (["--log-level", "kpybroker=loud"], "'loud' is not one of"),
        (["extra"], "unexpected extra argument"),
    ],
)
def test_wrong_usage(arguments: list[str], why: str) -> None:
    result = run("serve", *arguments)
    assert result.exit_code == 2
    assert why in result.output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--set", "num.partition=3"], "there is no setting num.partition; did you mean num.partitions?"),
        (["--set", "num.partitions=x"], "Invalid value x for configuration num.partitions: Not a number of type INT"),
        (["--config", "/no/such/file"], "cannot read /no/such/file: No such file or directory"),
        (["--set", "advertised.listeners=PLAINTEXT://0.0.0.0:1"], "cannot use the nonroutable meta-address 0.0.0.0"),
    ],
)
def test_settings_that_a_node_cannot_start_with(arguments: list[str], why: str) -> None:
    result = run("serve", *arguments)
    assert result.exit_code == 1
    assert result.output.startswith("kpybroker: ")
    assert why in result.output
    assert result.output.count("\n") == 1


def test_what_keeps_a_node_from_starting_is_told_in_one_line() -> None:
    failing = command("serve", startup='raise StartupFailed("localhost:9092 is in use by another process")')
    result = subprocess.run(failing, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "kpybroker: localhost:9092 is in use by another process\n"
    assert result.stdout == ""


def test_a_bug_shows_its_traceback() -> None:
    result = subprocess.run(command("serve", startup="1 / 0"), capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr


@contextmanager
def started(*arguments: str, after: str = "pass") -> Iterator[subprocess.Popen[str]]:
    """A running `kpybroker serve`; its welcome has been read."""
    process = subprocess.Popen(
        command("serve", *arguments, after=after), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if "stop it" in line:
                break
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_the_node(number: signal.Signals) -> None:
    with started() as process:
        process.send_signal(number)
        _, errors = process.communicate()
        assert process.returncode == 0
        assert errors == "stopping; the same again stops at once\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_the_process(number: signal.Signals, code: int) -> None:
    with started(after="await trio.sleep_forever()") as process:
        process.send_signal(number)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("stopping")
        process.send_signal(number)
        assert process.wait() == code


def test_welcome_fits_a_screen_and_says_how_to_try_it(tmp_path: Path) -> None:
    config = BrokerConfig.load(overrides={"log.dirs": str(tmp_path)})
    text = welcome(config, config.reachable.brokers)
    assert len(text.splitlines()) < 24
    assert "PLAINTEXT://localhost:9092" in text
    assert str(tmp_path) in text
    assert "--bootstrap-server localhost:9092" in text


def test_options_become_settings() -> None:
    report = (
        "print(config.data_dirs[0], config.num_partitions, *config.reachable.listening, flush=True); raise SystemExit"
    )
    arguments = ["--listen", "[::1]:0", "--data-dir", "/somewhere", "--set", "num.partitions=2", "--set"]
    code = command("serve", *arguments, "num.partitions=3", startup=report)
    result = subprocess.run(code, capture_output=True, text=True, check=False)
    assert result.stdout == "/somewhere 3 PLAINTEXT://[::1]:0 CONTROLLER://localhost:9093\n"


def test_warnings_are_logged() -> None:
    code = command("serve", "--set", "num.io.threads=3", startup="raise SystemExit")
    result = subprocess.run(code, capture_output=True, text=True, check=False)
    assert "WARNING without effect in this broker: num.io.threads" in result.stderr
