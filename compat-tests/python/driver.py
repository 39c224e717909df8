"""A stock client of Apache Kafka, driven by the tests: `driver.py kafka-python|confluent-kafka|aiokafka HOST:PORT`.

One request a line on stdin, one answer a line on stdout, both JSON; harness/driver.py has the words of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # where `harness` is

MODULES = {
    "kafka-python": "kafka_python_client",
    "confluent-kafka": "confluent_client",
    "aiokafka": "aiokafka_client",
}

Operation = Callable[..., Any]


def main() -> None:
    client, address = sys.argv[1:]
    operations: dict[str, Operation] = import_module(MODULES[client]).operations(address)
    for line in sys.stdin:
        print(json.dumps(answer(operations, json.loads(line))), flush=True)


def answer(operations: dict[str, Operation], request: dict[str, Any]) -> dict[str, Any]:
    do = request.pop("do")
    if do not in operations:
        return {"error": {"code": None, "message": f"no such request: {do}"}}
    try:
        return {"ok": operations[do](**request)}
    except Exception as error:  # whatever the library raises is the answer
        return {"error": {"code": code_of(error), "message": repr(error)}}


def code_of(error: Exception) -> int | None:
    """Kafka's error code in an error of any of the libraries; None when it has none."""
    errno = getattr(error, "errno", None)
    if isinstance(errno, int) and errno >= 0:
        return errno
    first = error.args[0] if error.args else None
    code = getattr(first, "code", None)  # a KafkaException of confluent-kafka has its KafkaError as argument
    return code() if callable(code) and code() >= 0 else None


if __name__ == "__main__":
    main()
