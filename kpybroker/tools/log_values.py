"""How the keys and values of records are shown, and those of the broker's own topics decoded."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from kpybroker.wire.errors import MalformedMessage, UnknownRecord
from kpybroker.wire.internal.framing import (
    decode_group_record,
    decode_metadata_record,
    decode_share_record,
    decode_transaction_record,
)
from kpybroker.wire.json_form import to_json
from kpybroker.wire.primitives import read_uvarint
from kpybroker.wire.records.control import control_type, read_control
from kpybroker.wire.records.record import Record
from kpybroker.wire.schema import Message

METADATA_TOPIC = "__cluster_metadata"
_COORDINATORS = {
    "__consumer_offsets": decode_group_record,
    "__transaction_state": decode_transaction_record,
    "__share_group_state": decode_share_record,
}


class Form(StrEnum):
    """How bytes are shown."""

    TEXT = "text"
    """As UTF-8; what is not, in hex."""
    HEX = "hex"
    JSON = "json"
    """As the JSON that they are; what is not, as text."""


def shown_as(form: Form, data: bytes | memoryview | None) -> Any:
    """A key or a value. Hex is an object, so that it can't be mistaken for text."""
    if data is None:
        return None
    data = bytes(data)
    if form is Form.HEX:
        return {"hex": data.hex()}
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return {"hex": data.hex()}
    if form is Form.JSON:
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def is_internal(topic: str) -> bool:
    """Whether records of this topic are the broker's own."""
    return topic == METADATA_TOPIC or topic in _COORDINATORS


def decoded(topic: str, record: Record) -> dict[str, Any]:
    """What a record of one of the broker's own topics says: the messages in it, by their names, as Kafka's JSON."""
    try:
        if topic == METADATA_TOPIC:
            assert record.value is not None, "a metadata record has a value"
            message = decode_metadata_record(record.value)
            _, position = read_uvarint(record.value, 0)
            _, position = read_uvarint(record.value, position)
            version, _ = read_uvarint(record.value, position)
            return _named(message, version)
        assert record.key is not None, "a coordinator's record has a key"
        key, value = _COORDINATORS[topic](record.key, record.value)
        found = _named(key, 0)
        if value is None:
            return {**found, "tombstone": True}
        assert record.value is not None
        return {**found, **_named(value, int.from_bytes(record.value[:2], "big"))}
    except UnknownRecord as unknown:
        return {"unknown": str(unknown)}
    except (MalformedMessage, AssertionError) as error:
        return {"flaw": str(error)}


def control(record: Record) -> dict[str, Any]:
    """What a control record says. Raises: CorruptRecords."""
    message = read_control(record)
    kind = control_type(record).name
    return {"control": kind, **({} if message is None else _named(message, 0))}


def _named(message: Message, version: int) -> dict[str, Any]:
    return {type(message).__name__: {"version": version, **to_json(message, version)}}
