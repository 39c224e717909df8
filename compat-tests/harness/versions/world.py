"""A connection that speaks any version of any API, and answers in a form that two brokers can be compared by.

An answer is the canonical JSON of the response, without what differs from run to run: ids, ports, member and producer
ids become placeholders, the prefix of a run's names is taken off, and objects in a list are put in one order.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import time
import uuid
from base64 import b64decode
from collections.abc import Callable
from typing import Any, TypeAlias

from kpybroker.wire.api_keys import APIS, ApiKey
from kpybroker.wire.codec import decode, decode_prefix, encode
from kpybroker.wire.headers import RequestHeader, ResponseHeader
from kpybroker.wire.json_form import to_json
from kpybroker.wire.primitives import uuid_text
from kpybroker.wire.schema import ArrayOf, Message, Struct, StructOf, fields_of

Answer: TypeAlias = Any
"""What json.dumps takes: a normalised response, or "closed" for a connection that the broker has closed."""

CLIENT_ID = "compat"
CLOSED = "closed"
LIMIT_S = 60.0
MEMBER_ID = re.compile(r"(\w*)-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
PLACEHOLDERS = {"port": "<port>", "sessionId": "<session>", "producerId": "<producer>", "clusterId": "<cluster>"}
PLACEHOLDERS |= {"logDir": "<folder>", "totalBytes": "<bytes>", "usableBytes": "<bytes>"}
"""JSON field -> what stands for its value, unless that is null, zero or negative."""


def make(cls: type[Struct], version: int, given: dict[str, Any]) -> Any:
    """The message of `given` at a version: fields that the version has not are left out, missing ones are zero.

    Raises: AssertionError for a field that no version has.
    """
    fields = fields_of(cls)
    unknown = set(given) - {field.name for field in fields}
    assert not unknown, f"{cls.__name__} has no {sorted(unknown)}"
    values = {}
    for field in fields:
        if version not in field.versions or field.name not in given:
            values[field.name] = field.zero
            continue
        value = given[field.name]
        match field.type:
            case ArrayOf(element=StructOf(type=element)) if value is not None:
                value = [make(element, version, each) for each in value]
            case StructOf(type=nested) if value is not None:
                value = make(nested, version, value)
        values[field.name] = value
    return cls(**values)


UNORDERED = {"subscribedTopicNames", "partitions"}
"""Fields with lists of names, or of numbers, that are sets."""
EMBEDDED = {"assignment", "memberAssignment", "memberMetadata", "metadata", "subscription"}
"""Fields with messages of clients among themselves, which name topics; in base64."""


class Wire:
    """One connection."""

    def __init__(self, address: str, client_id: str = CLIENT_ID, limit_s: float = LIMIT_S) -> None:
        """`limit_s`: how long each step may take. Raises: OSError, later too."""
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=limit_s)
        self._reader = self._socket.makefile("rb")
        self._client_id = client_id
        self._correlation_id = 0

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def send(self, key: int, version: int, body: bytes) -> None:
        """One request, of which the body is given."""
        self._correlation_id += 1
        api = APIS.get(key)
        header_version = 1 if api is None or version > api.schema[1] else api.request_header_version(version)
        header = RequestHeader(
            request_api_key=key,
            request_api_version=version,
            correlation_id=self._correlation_id,
            client_id=self._client_id,
        )
        frame = encode(header, header_version) + body
        self._socket.sendall(struct.pack(">i", len(frame)) + frame)

    def receive(self) -> bytes | None:
        """The next response's bytes; None when the broker has closed the connection."""
        try:
            size = self._reader.read(4)
            frame = self._reader.read(struct.unpack(">i", size)[0]) if len(size) == 4 else b""
        except ConnectionResetError:
            return None
        return frame or None

    def send_only(self, key: ApiKey, version: int, request: dict[str, Any]) -> None:
        """A request, by its fields."""
        self.send(key, version, encode(make(APIS[key].request_class(), version, request), version))

    def ask(self, key: ApiKey, version: int, request: dict[str, Any]) -> Message | None:
        """A request, by its fields, and its response; None when the connection was closed instead."""
        self.send_only(key, version, request)
        return self.take(key, version)

    def take(self, key: ApiKey, version: int) -> Message | None:
        """The response to the request sent last, which was of this API and version."""
        api = APIS[key]
        frame = self.receive()
        if frame is None:
            return None
        header, start = decode_prefix(ResponseHeader, api.response_header_version(version), frame)
        assert header.correlation_id == self._correlation_id
        return decode(api.response_class(), version, frame[start:])


class World:
    """A broker, names of this run's own, and what is known of what they became."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.prefix = f"v{uuid.uuid4().hex[:8]}-"
        self.ids: dict[str, bytes] = {}
        self._placeholders: dict[str, str] = {}
        self._wire: Wire | None = None

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def name(self, what: str) -> str:
        """A name of this run's: answers show it without the run's prefix."""
        return self.prefix + what

    def raw(self, api: ApiKey, version: int, /, **request: Any) -> Any:
        """The response as a message; None when the broker closed the connection."""
        if self._wire is None:
            self._wire = Wire(self.address)
        response = self._wire.ask(api, version, request)
        if response is None:
            self.close()
        return response

    def ask(self, api: ApiKey, version: int, /, **request: Any) -> Answer:
        """The response, normalised."""
        response = self.raw(api, version, **request)
        return CLOSED if response is None else self.normal(to_json(response, version))

    def topic(self, what: str, partitions: int = 1, **configs: str) -> str:
        """Make a topic; its name."""
        name = self.name(what)
        settings = [{"name": key.replace("_", "."), "value": value} for key, value in configs.items()]
        asked = {"name": name, "num_partitions": partitions, "replication_factor": 1, "configs": settings}
        response = self.raw(ApiKey.CREATE_TOPICS, 7, topics=[asked], timeout_ms=60_000)
        (made,) = response.topics
        assert made.error_code == 0, made
        self.know(name, made.topic_id)
        self.wait_until_led(name, partitions)
        return name

    def wait_until_led(self, topic: str, partitions: int) -> None:
        """A broker follows the controller: a moment passes until it leads the partitions of a new topic."""
        asked = [{"partition_index": index, "timestamp": -2} for index in range(partitions)]
        topics = [{"name": topic, "partitions": asked}]

        def led() -> bool:
            response = self.raw(ApiKey.LIST_OFFSETS, 7, replica_id=-1, topics=topics)
            return all(each.error_code == 0 for each in response.topics[0].partitions)

        self.until(led)

    def until(self, reached: Callable[[], bool]) -> None:
        """Ask until it is so. Raises: AssertionError after LIMIT_S."""
        deadline = time.monotonic() + LIMIT_S
        while not reached():
            assert time.monotonic() < deadline, "the broker does not come to it"
            time.sleep(0.005)  # between two questions: there is nothing else to wait on

    def know(self, name: str, topic_id: bytes) -> None:
        """A topic's id: answers show what it is the id of."""
        self.ids[name] = topic_id
        self._placeholders[uuid_text(topic_id)] = f"<id of {name.removeprefix(self.prefix)}>"

    def _embedded(self, value: str) -> str:
        """What clients tell each other; as text, if it names something of this run."""
        try:
            data = b64decode(value, validate=True)
        except ValueError:
            return value
        prefix = self.prefix.encode()
        return repr(data.replace(prefix, b"")) if prefix in data else value

    def mask(self, value: str, placeholder: str) -> None:
        """A text that differs from run to run: answers show the placeholder."""
        self._placeholders[value] = placeholder

    def normal(self, value: Any, field: str = "") -> Answer:
        """What of an answer is the same in every run."""
        match value:
            case dict():
                return {name: self.normal(item, name) for name, item in value.items()}
            case list():
                items = [self.normal(item) for item in value]
                unordered = field in UNORDERED or (items and isinstance(items[0], dict))
                return (
                    sorted(items, key=json.dumps if items and not isinstance(items[0], int) else None)
                    if unordered
                    else items
                )
            case str():
                if field in PLACEHOLDERS:
                    return PLACEHOLDERS[field]
                if field in EMBEDDED:
                    value = self._embedded(value)
                value = self._placeholders.get(value, value).replace(self.prefix, "")
                return MEMBER_ID.sub(r"\1-<uuid>", value)
            case int() if field in PLACEHOLDERS and value > 0:
                return PLACEHOLDERS[field]
        return value


def differences(expected: Answer, found: Answer, path: str = "") -> list[str]:
    """Where two answers differ, and how."""
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = [*expected, *(key for key in found if key not in expected)]
        return [line for key in keys for line in differences(expected.get(key), found.get(key), f"{path}/{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for index, (left, right) in pairs for line in differences(left, right, f"{path}/{index}")]
    return [] if expected == found else [f"{path}: Kafka {_short(expected)}, found {_short(found)}"]


def _short(answer: Answer) -> str:
    text = json.dumps(answer)
    return text if len(text) <= 300 else f"{text[:300]}..."
