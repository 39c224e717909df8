"""A stock client in a process of its own, asked and answered in lines of JSON.

A request is {"do": WHAT, ...}; the answer {"ok": RESULT} or {"error": {"code": KAFKA'S CODE OR null, "message": TEXT}}.
Requests are carried out in order, one at a time; members of groups go on in the background. What there is to do:

    hello                                                      -> {"version", "codecs"}
    produce   topic, codec, idempotent, partitions, records    acks=all; record i goes to partition i % partitions
    read      topic, partitions, count                         -> records, from the start, without committing
    join      member, topic, group, [protocol]                 one more member, under a name of the test's choice
    look      member                                           -> {"partitions": its share, "values": all it has read}
    commit    member                                           what it has read
    leave     member

Transactions, each of a producer that is made for it, under a name of the test's choice:

    begin     producer, transactional_id, topic, partitions, records    the records are acknowledged
    end       producer, committed, [group, topic, offsets]              offsets go into the transaction first

A record is {"key", "value", "headers": {name: value}}, all text; read, it has "partition" and "offset" besides. Then
there is administration: create_topic, alter_configs and so on, with fields and results as in test_client_admin.py.
Which client has what is in harness/stock_clients.py.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from harness.stock_clients import CLIENTS, ClientMissing, StockClient

ANSWER_LIMIT_S: Final = 240.0


class ClientError(Exception):
    """The client library reported an error; `code` is Kafka's, None for one of the library's own."""

    def __init__(self, code: int | None, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class DriverFailed(Exception):
    """The driver has ended, or does not answer."""


class Driver:
    """One client library against one broker. Raises: ClientMissing, DriverFailed."""

    def __init__(self, client: StockClient, address: str, folder: Path) -> None:
        self.client = client
        self._log_path = folder / f"{client.name}.log"
        command = [*client.command(), address]
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read, name=client.name, daemon=True)
        self._reader.start()
        hello = self.ask("hello")
        self.version: str = hello["version"]
        self.codecs: list[str] = hello["codecs"]

    def ask(self, do: str, **fields: Any) -> Any:
        """Raises: ClientError when the library does; DriverFailed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=ANSWER_LIMIT_S)
        except queue.Empty:
            self.close()
            raise DriverFailed(f"{self.client.name} has not answered to {do}: {self._last_words()}") from None
        except BrokenPipeError:
            line = b""
        if not line:
            self._process.wait()
            raise DriverFailed(f"{self.client.name} has ended at {do}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(answer["error"]["code"], answer["error"]["message"])
        return answer["ok"]

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End the process, as if it had been killed: members leave without a word."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def _last_words(self) -> str:
        return self._log_path.read_bytes()[-2000:].decode("utf-8", "replace")


class Drivers:
    """The drivers of a session by their clients' names, started when first asked for."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self._folder = folder
        self._running: dict[str, Driver] = {}

    def get(self, name: str) -> Driver:
        """Raises: ClientMissing, DriverFailed."""
        driver = self._running.get(name)
        if driver is None or not driver.running:
            driver = self._running[name] = Driver(CLIENTS[name], self._address, self._folder)
        return driver

    def all(self) -> list[Driver]:
        """The drivers of all clients that can be had here. Raises: DriverFailed."""
        found = []
        for name in CLIENTS:
            with suppress(ClientMissing):
                found.append(self.get(name))
        return found

    def versions(self) -> dict[str, str]:
        """The versions of those that were started, by name."""
        return {name: driver.version for name, driver in self._running.items()}

    def close(self) -> None:
        for driver in self._running.values():
            driver.close()
