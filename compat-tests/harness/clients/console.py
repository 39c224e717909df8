"""Apache Kafka's console producer and consumer: the Java client, in the JVM of the tool host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.clients import JOIN_LIMIT_S, MEMBERS, PARTITIONS
from harness.clients.base import TextClient, TextGroup
from harness.java_tools import CONSOLE_CONSUMER, CONSOLE_PRODUCER, ToolHost


class ConsoleGroup:
    """Three kafka-console-consumers."""

    def __init__(self, tools: ToolHost, address: str, topic: str, group_id: str) -> None:
        self._tools = tools
        self._client_ids = [f"{group_id}-member-{number}" for number in range(MEMBERS)]
        common = ("--bootstrap-server", address, "--topic", topic, "--group", group_id, "--from-beginning")
        heartbeat = ("--command-property", "heartbeat.interval.ms=300")
        self._runs = [
            tools.start(CONSOLE_CONSUMER, *common, *heartbeat, "--command-property", f"client.id={client_id}")
            for client_id in self._client_ids
        ]

    def wait_assigned(self) -> None:
        answer = self._tools.wait_for_assignment(self._client_ids, PARTITIONS // MEMBERS, JOIN_LIMIT_S)
        assert answer == "ok", f"partitions are not shared out: {answer}"

    def wait_for(self, count: int, limit_s: float) -> bool:
        return self._tools.wait_for_lines(self._runs, count, limit_s)

    def close(self) -> list[bytes]:
        for run in self._runs:
            run.stop()
        values: list[bytes] = []
        for run in self._runs:
            result = run.result()
            assert result.code == 0, result.err
            values += result.out_path.read_bytes().split(b"\n")[:-1]
        return values


class Console(TextClient):
    name = "console"

    def __init__(self, tools: ToolHost, folder: Path) -> None:
        self._tools = tools
        self._folder = folder

    def write(self, address: str, topic: str, codec: str, lines: Sequence[bytes]) -> None:
        source = self._folder / f"{topic}.txt"
        with source.open("wb") as file:
            file.writelines(line + b"\n" for line in lines)
        # Batches by the text's size: without keys, partitions take turns by bytes, and a short text is to reach all.
        batch_bytes = min(max(source.stat().st_size // 200, 256), 16384)
        batches = ("--batch-size", str(batch_bytes), "--timeout", "20")
        target = ("--bootstrap-server", address, "--topic", topic, "--request-timeout-ms", "30000")
        result = self._tools.run(CONSOLE_PRODUCER, *target, "--compression-codec", codec, *batches, stdin=source)
        source.unlink()
        assert result.code == 0, result.err
        assert "ERROR" not in result.err, result.err

    def group(self, address: str, topic: str, group_id: str) -> TextGroup:
        return ConsoleGroup(self._tools, address, topic, group_id)
