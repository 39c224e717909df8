"""Varints, ids as text, headers read by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpybroker.wire.api_keys import APIS, ApiKey
from kpybroker.wire.codec import encode
from kpybroker.wire.errors import MalformedMessage
from kpybroker.wire.headers import RequestHeader, parse_request_header
from kpybroker.wire.primitives import ZERO_UUID, read_uvarint, uuid_from_text, uuid_text, uvarint


@given(st.integers(0, 0xFFFFFFFF) | st.sampled_from([0x7F, 0x80, 0x3FFF, 0x4000, 0x1FFFFF, 0x200000, 0xFFFFFFFF]))
def test_uvarint(number: int) -> None:
    data = uvarint(number)
    assert read_uvarint(b"\xff" + data + b"\xff", 1) == (number, 1 + len(data))
    for cut in range(len(data)):
        with pytest.raises(IndexError):
            read_uvarint(data[:cut], 0)


@pytest.mark.parametrize("data", [b"\xff" * 5 + b"\x01", b"\x80\x80\x80\x80\x10", b"\x80\x80\x80\x80\x80\x00"])
def test_uvarint_too_long(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="varint"):
        read_uvarint(data, 0)


@given(st.binary(min_size=16, max_size=16))
def test_uuid(uuid: bytes) -> None:
    assert uuid_from_text(uuid_text(uuid)) == uuid


@pytest.mark.parametrize(
    "text", ["", "A", "AAAAAAAAAAAAAAAAAAAAA", "A" * 24, "A" * 21 + "/", "A" * 21 + "+", "é" * 22, "A" * 21 + " "]
)
def test_no_uuid(text: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        uuid_from_text(text)


def test_uuid_as_kafka_prints_it() -> None:
    assert uuid_text(ZERO_UUID) == "A" * 22
    assert uuid_text(ZERO_UUID[:-1] + b"\1") == "AAAAAAAAAAAAAAAAAAAAAQ"


@given(
    st.sampled_from(sorted(APIS)),
    st.integers(0, 0x7FFF),
    st.integers(-(1 << 31), (1 << 31) - 1),
    st.none() | st.text(max_size=300),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(max_size=200)), max_size=3),
    st.binary(max_size=4),
)
def test_request_header(
    key: int, version: int, correlation_id: int, client_id: str | None, tags: list[tuple[int, bytes]], body: bytes
) -> None:
    """By hand as by the declaration, cut short anywhere."""
    header_version = APIS[key].request_header_version(version)
    header = RequestHeader(
        request_api_key=key,
        request_api_version=version,
        correlation_id=correlation_id,
        client_id=client_id,
        unknown_tags=tuple(tags) if header_version == 2 else (),
    )
    data = encode(header, header_version)
    for frame in (data + body, memoryview(bytearray(data + body))):
        found = parse_request_header(frame)
        assert found == (key, version, correlation_id, client_id, len(data))
    for cut in range(len(data)):
        with pytest.raises(MalformedMessage):
            parse_request_header(data[:cut])


def test_request_header_of_nonsense() -> None:
    assert parse_request_header(b"\x7f\xff\0\0\0\0\0\1\xff\xff").client_id is None
    with pytest.raises(MalformedMessage, match="UTF-8"):
        parse_request_header(b"\0\0\0\0\0\0\0\1\0\2\xc3\x28")
    start = ApiKey.FETCH.to_bytes(2, "big") + b"\0\x12" + bytes(4) + b"\0\0"
    with pytest.raises(MalformedMessage):
        parse_request_header(start + b"\x01\x01\x7f")
