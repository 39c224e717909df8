"""A node in a container: what its environment asks for, the image's recipe, and whether it answers."""

from __future__ import annotations

import re
import shlex
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kpybroker.config import ConfigError
from kpybroker.config.environment import FOR_THE_IMAGE, FOR_THE_JVM
from kpybroker.testing import Broker
from kpybroker.tools import container, ping
from kpybroker.tools.cli import main
from kpybroker.tools.container import Plan, planned
from kpybroker.tools.serve import welcome

ROOT = Path(__file__).parents[2]
COMPOSE = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT",
    "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT_HOST://localhost:9092,PLAINTEXT://broker:19092",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@broker:29093",
    "KAFKA_LISTENERS": "CONTROLLER://:29093,PLAINTEXT_HOST://:9092,PLAINTEXT://:19092",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "CLUSTER_ID": "4L6g3nShT-eMCtK--X86sw",
}
"""As users of the apache/kafka image have it in their compose files."""


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """Where a server.properties can be mounted; it is not there."""
    return tmp_path / "server.properties"


def addresses(plan: Plan) -> tuple[list[str], list[str]]:
    reachable = plan.config.reachable
    return [str(each) for each in reachable.brokers], [str(each) for each in reachable.advertised]


def test_without_settings(mounted: Path) -> None:
    plan = planned({"PATH": "/bin"}, mounted)
    assert addresses(plan) == (["PLAINTEXT://:9092"], ["PLAINTEXT://localhost:9092"])
    assert plan.config.data_dirs == (Path("/var/lib/kafka/data"),)
    assert plan.config.embedded
    assert (plan.cluster_id, plan.log_levels, plan.warnings) == (None, {}, ())


def test_the_welcome_names_an_address_that_can_be_reached(mounted: Path) -> None:
    config = planned({}, mounted).config
    assert "bootstrap.servers=localhost:9092" in welcome(config, config.reachable.brokers)


def test_a_compose_file(mounted: Path) -> None:
    plan = planned(COMPOSE, mounted)
    assert addresses(plan)[1] == ["PLAINTEXT_HOST://localhost:9092", "PLAINTEXT://broker:19092"]
    assert plan.config.node_id == 1
    assert plan.config.data_dirs == (Path("/var/lib/kafka/data"),)
    assert not plan.config.embedded
    assert plan.cluster_id == "4L6g3nShT-eMCtK--X86sw"
    assert plan.warnings == ()


def test_a_mounted_file_and_variables_over_it(mounted: Path) -> None:
    rows = {variable.removeprefix("KAFKA_").lower().replace("_", "."): value for variable, value in COMPOSE.items()}
    mounted.write_text("".join(f"{name}={value}\n" for name, value in rows.items()) + "num.partitions=2\nlog.dirs=/d\n")
    plan = planned({"KAFKA_NUM_PARTITIONS": "5"}, mounted)
    assert plan.config.num_partitions == 5
    assert plan.config.data_dirs == (Path("/d"),)
    assert planned({"KAFKA_LOG_DIRS": "/e"}, mounted).config.data_dirs == (Path("/e"),)


def test_what_is_for_the_jvm_is_named_once(mounted: Path) -> None:
    plan = planned({"KAFKA_HEAP_OPTS": "-Xmx1g", "KAFKA_OPTS": "", "KAFKA_SSL_KEYSTORE_FILENAME": "k.jks"}, mounted)
    assert plan.warnings == ("without effect in this container: KAFKA_HEAP_OPTS, KAFKA_SSL_KEYSTORE_FILENAME",)
    assert plan.config.embedded, "these are no settings"


def test_levels_of_logging(mounted: Path) -> None:
    plan = planned(
        {
            "KAFKA_LOG4J_ROOT_LOGLEVEL": "warn",
            "KAFKA_LOG4J_LOGGERS": "kafka.request.logger=TRACE, kpybroker=INFO,other=loud",
        },
        mounted,
    )
    assert plan.log_levels == {"": "WARNING", "kafka.request.logger": "DEBUG", "kpybroker": "INFO"}
    assert plan.warnings == ("KAFKA_LOG4J_LOGGERS: 'loud' is none of Log4j's levels",)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"KAFKA_NODE_ID": "1"}, "process.roles"),
        (COMPOSE | {"KAFKA_NUM_PARTITIONS": "many"}, "num.partitions"),
        (COMPOSE | {"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:SSL,PLAINTEXT_HOST:SSL"},
         "secured by SSL, and only PLAINTEXT is spoken"),
    ],
)  # fmt: skip
def test_what_is_refused(given: dict[str, str], why: str, mounted: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        planned(given, mounted)


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


def test_one_line_for_a_wrong_setting() -> None:
    result = run("container", "KAFKA_NODE_ID=x")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert run("container", "KAFKA_NODE_ID").exit_code == 2


# The recipe


def instructions() -> list[list[str]]:
    """The Dockerfile's instructions, in words."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line and not line.startswith("#")]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    copied = [source for word, *rest in instructions() if word == "COPY" and "--from=build" not in rest
              for source in rest[:-1]]  # fmt: skip
    assert copied
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source in copied:
        assert (ROOT / source).exists(), source
    assert set(copied) == let_in


def test_what_the_image_is_like() -> None:
    last = max(index for index, words in enumerate(instructions()) if words[0] == "FROM")
    final = {words[0]: words[1:] for words in instructions()[last:]}
    assert final["USER"] == ["appuser"]
    assert container.DATA_DIR in " ".join(final["VOLUME"])
    assert str(container.MOUNTED_CONFIG.parent) in " ".join(final["VOLUME"])
    assert final["STOPSIGNAL"] == ["SIGTERM"]
    assert "ENTRYPOINT" in final
    assert final["ENTRYPOINT"] == ["[kpybroker,", "container]"], "no shell in between: process 1 gets the signals"
    assert "CMD" not in final
    assert " ".join(final["HEALTHCHECK"]).endswith("CMD [kpybroker, ping, --container]")
    installs = [" ".join(words) for words in instructions() if "install" in words and words[0] == "RUN"]
    assert any("--require-hashes" in each for each in installs)


def test_every_variable_of_the_image_is_documented() -> None:
    text = (ROOT / "docs/container.md").read_text()
    assert {name for name in FOR_THE_JVM | FOR_THE_IMAGE if name not in text} == set()


# Whether it answers


@contextmanager
def listening(answer: bytes) -> Iterator[str]:
    """Something else that listens, and says this to whoever comes."""
    with socket.create_server(("localhost", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"localhost:{server.getsockname()[1]}"
        thread.join()


def test_ping() -> None:
    with Broker() as broker:
        result = run("ping", broker.bootstrap_servers)
        assert (result.exit_code, result.output) == (0, "")
        address = broker.bootstrap_servers
    result = run("ping", address)
    assert (result.exit_code, result.output) == (1, f"kpybroker: no answer from {address}: Connection refused\n")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "the connection was closed"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what listens there is no Kafka broker"),
        (b"\x00\x00\x00\x06\x00\x00\x00\x07\x00\x23", "error 35"),
        (b"\x00\x00\x00\x06\x00\x00\x00\x08\x00\x00", "what listens there is no Kafka broker"),
        (b"\x00\x00\x00\x06\x00\x00", "what listens there is no Kafka broker"),
    ],
)
def test_ping_of_something_else(answer: bytes, why: str) -> None:
    with listening(answer) as address:
        result = run("ping", address)
    assert (result.exit_code, result.output) == (1, f"kpybroker: no answer from {address}: {why}\n")


def test_ping_of_what_says_nothing() -> None:
    with socket.create_server(("localhost", 0)) as server:
        result = run("ping", "--timeout", "0.05", f"localhost:{server.getsockname()[1]}")
    assert result.exit_code == 1
    assert "timed out" in result.output


@pytest.mark.parametrize("arguments", [["localhost"], ["localhost:x"], ["--timeout", "0"], ["--container", "a:1"]])
def test_ping_of_a_wrong_command_line(arguments: list[str]) -> None:
    assert run("ping", *arguments).exit_code == 2


def test_ping_in_a_container(monkeypatch: pytest.MonkeyPatch, mounted: Path) -> None:
    monkeypatch.setattr(ping, "MOUNTED_CONFIG", mounted)
    with Broker() as broker:
        listeners = f"CONTROLLER://:29093,PLAINTEXT_HOST://localhost:{broker.port},PLAINTEXT://:19092"
        assert run("ping", "--container", **COMPOSE | {"KAFKA_LISTENERS": listeners}).exit_code == 0
    assert run("ping", "--container", KAFKA_NODE_ID="x").exit_code == 1
