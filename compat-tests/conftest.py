"""The compatibility tests' options and fixtures: which broker, how much text, and the JVM with Kafka's tools."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # where `harness` is

from harness import text
from harness.brokers import BrokerUnderTest, ChildBroker, broker_named
from harness.capabilities import missing_on
from harness.clients import PARTITIONS
from harness.clients.base import TextClient
from harness.driver import Driver, Drivers
from harness.java_clients import Admin, JavaClients
from harness.java_tools import ToolHost, Tools
from harness.kafka_jars import JavaMissing, classpath
from harness.record import Recorder
from harness.stock_clients import ClientMissing, begin
from harness.written import Written

LAST = ("test_text_in_and_out.py", "test_kafka_opens_our_directory.py")
"""Run at the end, in this order: the second reads what the first has written."""
FIRST, AFTER_BUILDS = -2, -1
"""Before them those that take stock clients, most of which have to be built: that is done behind all other tests."""

RECORDER = pytest.StashKey[Recorder]()

CLIENT_WARNINGS = (
    "ignore:(read|open)_text is deprecated:DeprecationWarning",
    "ignore:unclosed:ResourceWarning",
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning",
)
"""What client libraries do: kafka-python reads its specs in an old way, and leaves sockets to the collector."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("compatibility")
    lines = int(os.environ.get("COMPAT_LINES", "20000"))
    rounds = int(os.environ.get("COMPAT_ROUNDS", "2"))
    cycles = int(os.environ.get("COMPAT_CYCLES", "3"))
    group.addoption("--broker", default="kpybroker", help="kpybroker, kafka, or HOST:PORT of one that runs already")
    group.addoption("--lines", type=int, default=lines, help=f"lines of text through each client and codec [{lines}]")
    group.addoption("--cycles", type=int, default=cycles, help=f"cycles of kill -9 under a producer [{cycles}]")
    group.addoption("--rounds", type=int, default=rounds, help=f"rounds of the campaigns [{rounds}]")
    group.addoption("--seed", type=int, default=1, help="what a campaign's chance begins with [1]")
    group.addoption("--nodes", help="of the cluster campaign, by their kinds [three of --broker]")
    group.addoption("--faults", help="of the cluster campaign, separated by commas [all that this machine allows]")
    group.addoption("--in-flight", type=int, default=1, help="requests each of its producers has on the way [1]")
    group.addoption("--record", type=Path, help="file for what each test came to, and what clients asked for")
    group.addoption("--rewrite-answers", action="store_true", help="take Kafka's answers down anew (--broker=kafka)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*capabilities): what the broker must have, by harness/capabilities.py")
    for each in CLIENT_WARNINGS:
        config.addinivalue_line("filterwarnings", each)
    if config.getoption("--record"):
        config.stash[RECORDER] = Recorder(config.getoption("--record"), broker_kind(config))
        config.pluginmanager.register(config.stash[RECORDER])


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    built = {item.path.name for item in items if "drivers" in getattr(item, "fixturenames", ())}

    def turn(item: pytest.Item) -> int:
        name = item.path.name
        return LAST.index(name) if name in LAST else AFTER_BUILDS if name in built else FIRST

    items.sort(key=turn)
    kind = broker_kind(config)
    for item in items:
        for mark in item.iter_markers("needs"):
            for capability in missing_on(kind, mark.args):
                reason = f"{kind} has no {capability} yet (harness/capabilities.py)"
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def pytest_collection_finish(session: pytest.Session) -> None:
    if not session.config.getoption("collectonly"):
        params = (getattr(item, "callspec", None) for item in session.items)
        begin(dict.fromkeys(each.params["driver"] for each in params if each is not None and "driver" in each.params))


def broker_kind(config: pytest.Config) -> str:
    """kpybroker, kafka or outside."""
    choice = config.getoption("--broker")
    return choice if choice in ("kpybroker", "kafka") else "outside"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compat")


@pytest.fixture(scope="session")
def tools(folder: Path) -> Iterator[ToolHost]:
    """The one JVM that runs Kafka's tools; whatever needs it is skipped where there is no Java or no Maven."""
    try:
        host = ToolHost(folder / "tools")
    except JavaMissing as missing:
        pytest.skip(f"needs Apache Kafka's tools: {missing}")
    with host:
        yield host


@pytest.fixture
def kafka(tools: ToolHost, broker: BrokerUnderTest) -> Tools:
    """Kafka's tools, each told of the broker."""
    return Tools(tools, broker.address)


@pytest.fixture
def name() -> str:
    """A name for a topic of the test's own."""
    return f"tools-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def topic(broker: BrokerUnderTest, name: str) -> str:
    """A topic of six partitions, with this name."""
    from harness.admin import create_topic, end_offsets  # here for the same reason as the clients below

    create_topic(broker.address, name, PARTITIONS)
    end_offsets(broker.address, name, PARTITIONS)
    return name


@pytest.fixture(scope="session")
def java_clients(tools: ToolHost) -> Iterator[JavaClients]:
    """Apache Kafka's Java clients, in the JVM that has the tools."""
    clients = JavaClients(tools)
    yield clients
    clients.close()


@pytest.fixture
def admin(java_clients: JavaClients, broker: BrokerUnderTest) -> Iterator[Admin]:
    """The Java Admin."""
    with java_clients.admin(broker.address) as admin:
        yield Admin(java_clients, broker.address, admin)


@pytest.fixture(scope="session")
def java() -> None:
    """Skips the test where there is no Java or no Maven."""
    try:
        classpath()
    except JavaMissing as missing:
        pytest.skip(f"needs Apache Kafka: {missing}")


@pytest.fixture(scope="session")
def _session_broker(request: pytest.FixtureRequest, folder: Path) -> Iterator[BrokerUnderTest]:
    try:
        broker = broker_named(request.config.getoption("--broker"), folder / "broker")
    except JavaMissing as missing:
        pytest.skip(f"needs Apache Kafka: {missing}")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def broker(_session_broker: BrokerUnderTest) -> BrokerUnderTest:
    """The broker under test, one for the whole session, started again if a test has left it down."""
    if isinstance(_session_broker, ChildBroker) and not _session_broker.running:
        _session_broker.start()
    return _session_broker


@pytest.fixture
def restartable(broker: BrokerUnderTest) -> ChildBroker:
    """The broker under test, for a test that stops it or kills it."""
    if not isinstance(broker, ChildBroker):
        pytest.skip("restarts the broker: not done to an outside one")
    return broker


@pytest.fixture(scope="module")
def quick(_session_broker: BrokerUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildBroker]:
    """A broker of the kind under test whose consumer groups are in a hurry."""
    from harness.modern import QUICK  # here for the same reason as the clients below

    if not isinstance(_session_broker, ChildBroker):
        pytest.skip("needs a broker with settings of its own")
    broker = type(_session_broker)(tmp_path_factory.mktemp("quick"), settings=QUICK)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def cluster_kind(request: pytest.FixtureRequest) -> str:
    """The kind of the nodes of which clusters under test are made; they are started by the tests."""
    kind = broker_kind(request.config)
    if kind == "outside":
        pytest.skip("starts and kills nodes: not done to an outside broker")
    if kind == "kafka":
        request.getfixturevalue("java")
    return kind


@pytest.fixture(scope="session")
def lines(request: pytest.FixtureRequest) -> list[bytes]:
    """The text."""
    return text.lines(request.config.getoption("--lines"))


@pytest.fixture(scope="session")
def read_limit_s(lines: list[bytes]) -> float:
    """How long reading or writing the whole text may take: generous, for a busy machine."""
    return 120.0 + len(lines) / 1000


@pytest.fixture(scope="session")
def written(lines: list[bytes]) -> Written:
    """What the tests of this session have written, and which group has read it."""
    return Written(lines)


@pytest.fixture
def client(request: pytest.FixtureRequest) -> TextClient:
    """A client by its name: a test is parametrized over it with indirect=True."""
    # Not at the top of this file, where pytest's filters for their warnings are not in force yet.
    from harness.clients.confluent import Confluent
    from harness.clients.console import Console
    from harness.clients.kafka_python import KafkaPython

    name: str = request.param
    if name == "console":
        tools = request.getfixturevalue("tools")
        return Console(tools, request.getfixturevalue("folder"))
    return {"kafka-python": KafkaPython, "confluent-kafka": Confluent}[name]()


@pytest.fixture(scope="session")
def drivers(request: pytest.FixtureRequest, _session_broker: BrokerUnderTest, folder: Path) -> Iterator[Drivers]:
    """The stock clients, each in a process of its own, started when a test first asks for it."""
    (folder / "drivers").mkdir()
    drivers = Drivers(_session_broker.address, folder / "drivers")
    yield drivers
    recorder = request.config.stash.get(RECORDER, None)
    if recorder is not None:
        recorder.note_versions(drivers)
    drivers.close()


@pytest.fixture
def driver(request: pytest.FixtureRequest, drivers: Drivers) -> Driver:
    """A stock client by its name: a test is parametrized over it with indirect=True."""
    request.getfixturevalue("broker")  # up again, if a test has left it down
    try:
        return drivers.get(request.param)
    except ClientMissing as missing:
        pytest.skip(f"{request.param}: {missing}")
