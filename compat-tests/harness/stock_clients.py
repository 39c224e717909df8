"""The stock clients that the tests drive: what starts each, and what it has not got.

Each is a small program around the unchanged library, in the library's own language: python/, node/, go/, rust/. What
they need is fetched and built once, from lock files, into folders that git ignores. Where a toolchain is missing or a
registry cannot be reached, the client's tests are skipped, and say why.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent.parent
BUILD_LIMIT_S: Final = 1200.0

RECORDS: Final = frozenset({"produce", "read"})
GROUPS: Final = frozenset({"join", "look", "commit", "leave"})
TRANSACTIONS: Final = frozenset({"begin", "end"})
TOPICS: Final = frozenset({"create_topic", "delete_topic", "list_topics", "describe_topic"})


class ClientMissing(Exception):
    """The client cannot be had here; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class StockClient:
    """A client library: the command that drives it, and the requests of harness/driver.py that it cannot carry out.

    `codecs`: those that it can have; a driver's "hello" says which are in this build of it.
    """

    name: str
    command: Callable[[], list[str]]
    has: frozenset[str]
    idempotence: bool = True
    codecs: tuple[str, ...] = ("none", "gzip", "snappy", "lz4", "zstd")
    takes: Mapping[str, str] = field(default_factory=dict)
    """Request -> an API that one would not think it takes."""


def _python(name: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-W", "ignore", str(HERE / "python" / "driver.py"), name]


def _node(module: str, package: str) -> Callable[[], list[str]]:
    def command() -> list[str]:
        _install_node_packages()
        if not (HERE / "node" / "node_modules" / package / "package.json").exists():
            raise ClientMissing(f"npm could not install {package} (npm ci in compat-tests/node says why)")
        return ["node", str(HERE / "node" / "driver.js"), module]

    return command


def _go(name: str) -> Callable[[], list[str]]:
    return lambda: [_build_go(), name]


def _rust() -> list[str]:
    return [_build_rust(), "rskafka"]


def _install_node_packages() -> None:
    folder = HERE / "node"
    lock = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    installed = folder / "node_modules" / ".installed"  # for which lock file
    if not installed.exists() or installed.read_text() != lock:
        # Where there is no prebuilt librdkafka to be had, it is built against the libraries of this system. That build
        # starts as many compilers as it has files, unless it is told what load is enough.
        build = {"CKJS_LINKING": "dynamic", "MAKEFLAGS": f"-l{os.cpu_count() or 1}"}
        _run(["npm", "ci", "--no-audit", "--no-fund"], folder, build)
        installed.write_text(lock)


def _build_go() -> str:
    folder = HERE / "go"
    program = folder / "target" / "driver"
    _run(["go", "build", "-mod=readonly", "-o", str(program), "."], folder)
    return str(program)


def _build_rust() -> str:
    folder = HERE / "rust"
    _run(["cargo", "build", "--release", "--locked", "--quiet"], folder)
    return str(folder / "target" / "release" / "kpybroker-compat")


_lock: Final = threading.Lock()
_begun: Final[dict[tuple[str, Path], Future[ClientMissing | None]]] = {}
_builders: Final = ThreadPoolExecutor(thread_name_prefix="builds a client")


def begin(names: Iterable[str]) -> None:
    """Begin to fetch and build these clients, behind the tests that do without them."""
    for name in names:
        _builders.submit(CLIENTS[name].command)  # whoever wants the client hears what has come of it


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    """Run a command, once: the next time it comes to the same. Raises: ClientMissing, saying what could not be done."""
    key = (command[0], folder)
    with _lock:
        first = key not in _begun
        future = _begun.setdefault(key, Future())
    if first:
        future.set_result(_failure_of(command, folder, environment))
    failure = future.result()
    if failure is not None:
        raise failure


def _failure_of(command: list[str], folder: Path, environment: dict[str, str] | None) -> ClientMissing | None:
    if shutil.which(command[0]) is None:
        return ClientMissing(f"no {command[0]} on the path")
    try:
        result = subprocess.run(
            ["nice", *command],  # tests may be running
            cwd=folder,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=BUILD_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return ClientMissing(f"{' '.join(command[:2])} takes more than {BUILD_LIMIT_S:.0f} s")
    if result.returncode == 0:
        return None
    last = (result.stderr or result.stdout).strip()[-300:]
    return ClientMissing(f"{' '.join(command[:2])} failed in {folder.name}/: {last}")


EVERYTHING: Final = frozenset(
    {
        *RECORDS,
        *GROUPS,
        *TOPICS,
        *TRANSACTIONS,
        "create_partitions",
        "describe_cluster",
        "describe_configs",
        "alter_configs",
        "replace_configs",
        "list_groups",
        "describe_group",
        "delete_group",
        "group_offsets",
        "alter_group_offsets",
        "delete_group_offsets",
        "list_offsets",
        "delete_records",
        "describe_log_dirs",
        "elect_leaders",
        "list_reassignments",
        "alter_reassignments",
        "describe_producers",
        "alter_quotas",
        "describe_quotas",
        "list_config_resources",
        "update_features",
        "describe_quorum",
        "end_offset_of_epoch",
        "alter_replica_log_dirs",
    }
)

CLIENTS: Final = {
    each.name: each
    for each in (
        StockClient(
            name="kafka-python",
            command=_python("kafka-python"),
            has=EVERYTHING - {"replace_configs", "alter_quotas", "describe_quotas", "end_offset_of_epoch"},
        ),
        StockClient(
            name="confluent-kafka",
            command=_python("confluent-kafka"),
            has=RECORDS
            | GROUPS
            | TOPICS
            | TRANSACTIONS
            | {"create_partitions", "describe_cluster", "describe_configs", "alter_configs", "replace_configs"}
            | {"list_groups", "describe_group", "delete_group", "group_offsets", "alter_group_offsets"}
            | {"list_offsets", "delete_records", "elect_leaders"},
        ),
        StockClient(
            name="aiokafka",
            command=_python("aiokafka"),
            has=RECORDS
            | GROUPS
            | TOPICS
            | TRANSACTIONS
            | {"create_partitions", "describe_cluster", "describe_configs", "replace_configs"}
            | {"list_groups", "describe_group", "group_offsets", "delete_records"},
        ),
        StockClient(
            name="kafkajs",
            command=_node("kafkajs", "kafkajs"),
            has=RECORDS
            | GROUPS
            | TOPICS
            | TRANSACTIONS
            | {"create_partitions", "describe_cluster", "describe_configs", "replace_configs"}
            | {"list_groups", "describe_group", "delete_group", "group_offsets", "alter_group_offsets"}
            | {"list_offsets", "delete_records", "list_reassignments", "alter_reassignments"},
        ),
        StockClient(
            name="confluent-kafka-javascript",
            command=_node("confluent", "@confluentinc/kafka-javascript"),
            has=RECORDS
            | GROUPS
            | TOPICS
            | TRANSACTIONS
            | {"list_groups", "describe_group", "delete_group", "group_offsets", "list_offsets", "delete_records"},
        ),
        StockClient(name="franz-go", command=_go("franz-go"), has=EVERYTHING - {"describe_quorum"}),
        StockClient(
            name="sarama",
            command=_go("sarama"),
            has=EVERYTHING
            - {"alter_reassignments", "describe_producers", "list_config_resources", "update_features"}
            - {"describe_quorum", "end_offset_of_epoch", "alter_replica_log_dirs"},
            takes={"list_topics": "DescribeConfigs"},
        ),
        StockClient(
            name="rskafka",
            command=_rust,
            has=RECORDS | TOPICS | {"list_offsets", "delete_records"},
            idempotence=False,
        ),
    )
}


def having(*requests: str) -> list[str]:
    """The names of the clients that can carry out all of these."""
    return [name for name, client in CLIENTS.items() if client.has.issuperset(requests)]
