"""The codecs against Kafka's own bytes: every golden vector both ways, cut short, damaged, and hostile."""

import random
import subprocess
import sys
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpybroker.wire.catalogue import message_class
from kpybroker.wire.codec import decode, decode_prefix, encode, encode_parts
from kpybroker.wire.errors import MalformedMessage, UnencodableMessage, UnsupportedVersion, WireError
from kpybroker.wire.json_form import from_json, to_json, unknown_tags_of
from kpybroker.wire.messages.create_topics import CreatableTopic, CreateTopicsRequest
from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from kpybroker.wire.messages.heartbeat import HeartbeatRequest
from kpybroker.wire.messages.metadata import MetadataResponse, MetadataResponsePartition, MetadataResponseTopic
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from kpybroker.wire.schema import Int32, Message, Since, Struct, message, replace

Vector = dict[str, Any]

EVERY_BYTE_UP_TO = 2048
ENDS = 64
PLACES = 200


def test_there_are_vectors_of_everything(vectors: tuple[Vector, ...]) -> None:
    assert len(vectors) == 7781
    assert len({(vector["message"], vector["version"]) for vector in vectors}) == 744


def test_vectors_both_ways(vectors: tuple[Vector, ...]) -> None:
    """Bytes to message to the same bytes; to the same JSON.

    And from the JSON to an equal message and the same bytes.
    """
    for vector in vectors:
        cls, version, data = message_class(vector["message"]), vector["version"], bytes.fromhex(vector["hex"])
        message = decode(cls, version, data)
        assert encode(message, version) == data, vector
        assert to_json(message, version) == vector["json"], vector
        assert unknown_tags_of(message, version) == vector.get("unknown_tags", []), vector
        again = from_json(cls, version, vector["json"], vector.get("unknown_tags", ()))
        assert encode(again, version) == data, vector


def test_vectors_in_the_middle_of_a_writable_buffer(vectors: tuple[Vector, ...]) -> None:
    """As a frame is: a view of a bytearray, something before the message and behind it."""
    for vector in random.Random(3).sample(vectors, 2000):
        cls, version, data = message_class(vector["message"]), vector["version"], bytes.fromhex(vector["hex"])
        buffer = memoryview(bytearray(b"\xff" * 5 + data + b"\xff" * 1500))
        message, end = decode_prefix(cls, version, buffer, 5)
        assert end == 5 + len(data)
        assert encode(message, version) == data
        assert encode(decode(cls, version, buffer[5:end]), version) == data
        with pytest.raises(MalformedMessage, match="left over"):
            decode(cls, version, buffer[5 : end + 1])


def cuts(size: int, chance: random.Random) -> list[int]:
    """Where to cut: everywhere in small messages; at head, tail and random places of large ones."""
    if size <= EVERY_BYTE_UP_TO:
        return list(range(size))
    places = {*range(ENDS), *range(size - ENDS, size), *chance.sample(range(size), PLACES)}
    return sorted(places)


@pytest.mark.parametrize("part", range(4))
def test_truncated(vectors: tuple[Vector, ...], part: int) -> None:
    """No vector is another one cut short: each cut is an error that says where, within what is there."""
    chance = random.Random(11)
    for vector in vectors[part::4]:
        cls, version, data = message_class(vector["message"]), vector["version"], bytes.fromhex(vector["hex"])
        for cut in cuts(len(data), chance):
            fault = fault_of(cls, version, data[:cut])
            assert (fault.message, fault.version) == (vector["message"], version)
            assert 0 <= fault.offset <= cut


def fault_of(cls: type[Message], version: int, data: bytes) -> MalformedMessage:
    try:
        decode(cls, version, data)
    except MalformedMessage as fault:
        return fault
    raise AssertionError(f"{cls.__name__} v{version} decodes from {data.hex()}")


def test_flipped_bytes(vectors: tuple[Vector, ...]) -> None:
    """Damage gives another message, which has bytes of its own, or the one error."""
    chance = random.Random(5)
    for vector in vectors:
        data = bytearray.fromhex(vector["hex"])
        if data:
            for _ in range(4):
                damaged = bytearray(data)
                for _ in range(chance.randrange(1, 4)):
                    damaged[chance.randrange(len(data))] = chance.choice(
                        (0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256))
                    )
                check_damaged(vector, bytes(damaged))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_flipped_bytes_shrinking(vectors: tuple[Vector, ...], data: st.DataObject) -> None:
    """As above, with hypothesis to find the smallest damage that hurts."""
    vector = data.draw(st.sampled_from(vectors))
    damaged = bytearray.fromhex(vector["hex"])
    if damaged:
        place = st.integers(0, len(damaged) - 1)
        for index, byte in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=8)):
            damaged[index] = byte
    check_damaged(vector, bytes(damaged))


def check_damaged(vector: Vector, damaged: bytes) -> None:
    cls, version = message_class(vector["message"]), vector["version"]
    try:
        message = decode(cls, version, damaged)
    except WireError:
        return
    assert encode(decode(cls, version, encode(message, version)), version) == encode(message, version)


# ---- hostile input ----

HOSTILE = """
import resource, sys, tracemalloc
from kpybroker.wire.catalogue import message_class
from kpybroker.wire.codec import decode
from kpybroker.wire.errors import MalformedMessage

name, version, size, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
pattern = bytes.fromhex(sys.argv[5])
data = bytes.fromhex(sys.argv[6]) + pattern * (size // max(1, len(pattern)))
cls = message_class(name)
try:
    decode(cls, version, b"")
except MalformedMessage:
    pass
resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
tracemalloc.start()
try:
    decode(cls, version, data)
    result = "message"
except MalformedMessage:
    result = "malformed"
peak = tracemalloc.get_traced_memory()[1]
assert peak < times * size, f"{peak} bytes for {size}"
print(result)
"""


@pytest.mark.parametrize(
    ("name", "version", "head", "pattern", "times", "result"),
    [
        # A count of two thousand million, and nothing behind it.
        pytest.param("MetadataRequest", 4, "7fffffff", "", 1, "malformed", id="strings"),
        pytest.param("MetadataRequest", 12, "ffffffff07", "", 1, "malformed", id="compact structs"),
        pytest.param("LeaveGroupRequest", 3, "0000" + "7fffffff", "00", 20, "malformed", id="structs"),
        pytest.param("DeleteTopicsRequest", 5, "ffffffff07", "", 1, "malformed", id="compact strings"),
        pytest.param("ConsumerProtocolAssignment", 0, "000000010000" + "7fffffff", "00", 3, "malformed", id="integers"),
        pytest.param("ConsumerProtocolAssignment", 0, "00000000" + "7fffffff", "00", 3, "malformed", id="bytes"),
        pytest.param("SaslAuthenticateRequest", 2, "ffffffff07", "00", 3, "malformed", id="compact bytes"),
        pytest.param("HeartbeatRequest", 4, "ffff01", "61", 3, "malformed", id="a string"),
        pytest.param(
            "PartitionRecord", 1, "00" * 20 + "01" * 4 + "00" * 12 + "ffffffff07", "", 1, "malformed", id="ids"
        ),
        # As many elements as there is room for, each as small as can be: what a list of objects costs and no more.
        pytest.param("DeleteTopicsRequest", 5, "81808001", "01", 10, "malformed", id="empty strings"),
        pytest.param("MetadataRequest", 4, "00080000", "0000", 33, "malformed", id="short structs"),
        pytest.param(
            "HeartbeatRequest", 4, "01" + "00000000" + "0100" + "8080c000", "0500", 42, "malformed", id="tags"
        ),
        pytest.param("MetadataRequest", 9, "81808001", "0100", 33, "malformed", id="empty structs"),
        pytest.param("OffsetFetchRequest", 8, "81808001", "010100", 60, "malformed", id="empty lists"),
    ],
)
def test_memory_is_a_small_multiple_of_the_input(
    name: str, version: int, head: str, pattern: str, times: int, result: str
) -> None:
    """What a message announces is believed only as far as bytes are there for it."""
    size = 1 << 20
    arguments = [name, str(version), str(size), str(times), pattern, head]
    run = subprocess.run([sys.executable, "-c", HOSTILE, *arguments], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == result, run.stderr


class Nothing(Struct):
    """A struct that takes no bytes before version 1."""

    later: Annotated[Int32, Since(1)] = 0


@message(versions="0-1")
class Nothings(Message):
    """No message of Kafka's has such an array yet."""

    nothings: list[Nothing]


def test_elements_that_take_no_bytes() -> None:
    """Their count is bounded all the same: by the bytes that are left."""
    with pytest.raises(MalformedMessage, match="an array of 2147483647 elements"):
        decode(Nothings, 0, b"\x7f\xff\xff\xff")
    assert decode(Nothings, 1, b"\0\0\0\1\0\0\0\7") == Nothings(nothings=[Nothing(later=7)])


TOPICS = [
    FetchTopic(topic="", partitions=[]),
    FetchTopic(topic="t", partitions=[FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1)] * 400),
]


def test_unknown_tags_are_kept_up_to_a_limit() -> None:
    """They come back as they were; more than a struct can sensibly have are refused before they cost memory."""
    body = b"\x02g" + bytes(4) + b"\x02m\x00"
    data = body + b"\x40" + b"\x87\x88\x01\x00" * 64
    message = decode(HeartbeatRequest, 4, data)
    assert message.unknown_tags == ((0x4407, b""),) * 64
    assert encode(message, 4) == data
    with pytest.raises(MalformedMessage, match="65 tagged fields"):
        decode(HeartbeatRequest, 4, body + b"\x41" + b"\x87\x88\x01\x00" * 65)


@pytest.mark.parametrize(
    "fetch",
    [
        pytest.param(FetchRequest(max_wait_ms=0, min_bytes=0, topics=TOPICS[:1] * 100_001), id="of one array"),
        pytest.param(FetchRequest(max_wait_ms=0, min_bytes=0, topics=TOPICS * 300), id="of arrays in arrays"),
    ],
)
def test_a_request_has_a_budget_of_elements(fetch: FetchRequest) -> None:
    with pytest.raises(MalformedMessage, match="more than 100000 elements"):
        decode(FetchRequest, 12, encode(fetch, 12))


# ---- what can't be encoded ----


def heartbeat(**changes: Any) -> HeartbeatRequest:
    return replace(HeartbeatRequest(group_id="g", generation_id=1, member_id="m"), **changes)


CREATABLE = CreatableTopic(name="t", num_partitions=1, replication_factor=1, assignments=[], configs=[])


@pytest.mark.parametrize(
    ("message", "version", "kind", "field"),
    [
        pytest.param(heartbeat(group_instance_id="i"), 2, UnsupportedVersion, "group_instance_id", id="lost field"),
        pytest.param(heartbeat(), 5, UnsupportedVersion, "", id="version above"),
        pytest.param(heartbeat(), -1, UnsupportedVersion, "", id="version below"),
        pytest.param(heartbeat(generation_id=1 << 31), 3, UnencodableMessage, "generation_id", id="too large"),
        pytest.param(heartbeat(generation_id="1"), 4, UnencodableMessage, "generation_id", id="not a number"),
        pytest.param(heartbeat(generation_id=None), 4, UnencodableMessage, "generation_id", id="null number"),
        pytest.param(heartbeat(member_id=None), 4, UnencodableMessage, "member_id", id="null string"),
        pytest.param(heartbeat(member_id=b"m"), 4, UnencodableMessage, "member_id", id="bytes for a string"),
        pytest.param(heartbeat(member_id="m" * 32768), 3, UnencodableMessage, "member_id", id="long string"),
        pytest.param(heartbeat(member_id="m" * 32768), 4, UnencodableMessage, "member_id", id="long compact string"),
        pytest.param(heartbeat(member_id="\ud800"), 4, UnencodableMessage, "member_id", id="half a character"),
        pytest.param(
            CreateTopicsRequest(
                topics=[replace(CREATABLE, assignments=None)],
                timeout_ms=1,
            ),
            7,
            UnencodableMessage,
            "topics.assignments",
            id="null array",
        ),
        pytest.param(
            MetadataResponse(brokers=[], topics=[MetadataResponseTopic(error_code=3, name=None, partitions=[])]),
            11,
            UnencodableMessage,
            "topics.name",
            id="null in a version that can't have it",
        ),
    ],
)
def test_unencodable(message: Any, version: int, kind: type[UnencodableMessage], field: str) -> None:
    with pytest.raises(UnencodableMessage) as caught:
        encode(message, version)
    assert type(caught.value) is kind
    assert caught.value.field == field
    assert (caught.value.message, caught.value.version) == (type(message).__name__, version)


def test_what_may_be_lost_is() -> None:
    """An ignorable field that the version lacks, and one at its default."""
    request = FetchRequest(max_wait_ms=1, min_bytes=1, topics=[], rack_id="here", session_id=7)
    assert decode(FetchRequest, 4, encode(request, 4)) == replace(request, rack_id="", session_id=0)


def test_longest_string() -> None:
    for version in (3, 4):
        message = heartbeat(member_id="m" * 32767)
        assert decode(HeartbeatRequest, version, encode(message, version)) == message
    with pytest.raises(MalformedMessage, match="a string of 32768 bytes"):
        decode(HeartbeatRequest, 4, b"\x81\x80\x02" + b"g" * 32768)


@pytest.mark.parametrize(
    ("data", "field", "offset"),
    [
        pytest.param(b"\x00", "group_id", 0, id="null"),
        pytest.param(b"\x03\xc3\x28", "group_id", 0, id="not UTF-8"),
        pytest.param(b"\x02g\0\0", "generation_id", 2, id="in a number"),
        pytest.param(b"\x02g\0\0\0\0\x02", "member_id", 6, id="in a string"),
        pytest.param(b"\x02g\0\0\0\0\x02m\x05abc", "group_instance_id", 8, id="in a nullable string"),
        pytest.param(b"\x02g\0\0\0\0\x02m\x00", "tags", 9, id="before the tags"),
        pytest.param(b"\x02g\0\0\0\0\x02m\x00\x01\x00\x05", "tags", 9, id="in a tag"),
        pytest.param(b"\xff\xff\xff\xff\xff\x01", "group_id", 0, id="a length beyond five bytes"),
    ],
)
def test_an_error_says_where(data: bytes, field: str, offset: int) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode(HeartbeatRequest, 4, data)
    fault = caught.value
    assert (fault.message, fault.version, fault.field, fault.offset) == ("HeartbeatRequest", 4, field, offset)
    assert str(fault).startswith(f"HeartbeatRequest v4 {field} at byte {offset}: ")


# ---- records ----


class FileRegion:
    """Bytes that live elsewhere."""

    def __len__(self) -> int:
        return 5000


def produce(records: Any) -> ProduceRequest:
    partitions = [PartitionProduceData(index=index, records=records) for index in range(2)]
    return ProduceRequest(acks=1, timeout_ms=2, topic_data=[TopicProduceData(name="t", partition_data=partitions)])


@pytest.mark.parametrize("version", [3, 9])
def test_records_are_passed_through(version: int) -> None:
    region = FileRegion()
    parts = encode_parts(produce(region), version)
    assert [part for part in parts if part is region] == [region, region]
    assert [type(part) for part in parts if part is not region] == [bytes] * (3 if version == 9 else 2)
    with pytest.raises(UnencodableMessage, match="encode_parts"):
        encode(produce(region), version)
    whole = b"".join(bytes(5000) if part is region else part for part in parts)  # type: ignore[misc]
    assert encode(produce(bytes(5000)), version) == whole
    assert encode(produce(memoryview(bytes(5000))), version) == whole


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 300, 16383, 16384, 70_000, 3_000_000])
@pytest.mark.parametrize("version", [3, 9])
def test_records_are_views_of_the_input(size: int, version: int) -> None:
    data = bytearray(encode(produce(bytes(size)), version))
    message = decode(ProduceRequest, version, memoryview(data))
    records = message.topic_data[0].partition_data[1].records
    assert isinstance(records, memoryview)
    assert len(records) == size
    if size:
        records[0] = 7  # a batch is stamped in place
        again = decode(ProduceRequest, version, memoryview(data)).topic_data[0].partition_data[1].records
        assert isinstance(again, memoryview)
        assert again[0] == 7


def test_null_records() -> None:
    for version in (3, 9):
        message = produce(None)
        assert decode(ProduceRequest, version, encode(message, version)) == message


# ---- arrays whose elements look alike ----


def metadata(partitions: list[MetadataResponsePartition]) -> MetadataResponse:
    topic = MetadataResponseTopic(error_code=0, name="t", partitions=partitions)
    return MetadataResponse(brokers=[], topics=[topic] * 3)


def partition(index: int, replicas: int, tags: tuple[tuple[int, bytes], ...] = ()) -> MetadataResponsePartition:
    return MetadataResponsePartition(
        error_code=0,
        partition_index=index,
        leader_id=index % 3,
        replica_nodes=list(range(replicas)),
        isr_nodes=list(range(replicas)),
        offline_replicas=[1] if index == 77 else [],
        unknown_tags=tags,
    )


@pytest.mark.parametrize("version", [8, 12])
def test_shapes(version: int) -> None:
    """Elements of one shape, of several, with odd ones in between.

    Read again and again, so that shapes become known.
    """
    tagged = ((3, b"x"),) if version == 12 else ()
    messages = [
        metadata([partition(index, 3) for index in range(100)]),
        metadata([partition(index, 2) for index in range(30)]),
        metadata([partition(index, 3 if index < 50 else 1) for index in range(90)]),
        metadata([partition(index, index % 12) for index in range(60)]),
        metadata([partition(index, 3, tagged if index in (3, 40) else ()) for index in range(80)]),
        metadata([partition(index, 3, tagged) for index in range(5, 20)]),
        metadata([]),
    ]
    for _ in range(4):
        for each in messages:
            data = encode(each, version)
            assert decode(MetadataResponse, version, data) == each
            assert decode(MetadataResponse, version, memoryview(bytearray(data))) == each
            for cut in range(0, len(data), 97):
                with pytest.raises(MalformedMessage):
                    decode(MetadataResponse, version, data[:cut])


def test_no_more_shapes_are_kept_than_a_few() -> None:
    """A peer decides what shapes there are; it can't make us write code for ever."""
    from kpybroker.wire.uniform_runs import SHAPES_MAX, UniformRuns

    runs = UniformRuns(MetadataResponsePartition, 12, True)
    for replicas in range(9):
        for isr in range(9):
            element = replace(partition(1, replicas), isr_nodes=list(range(isr)))
            data = encode(
                MetadataResponse(
                    brokers=[], topics=[MetadataResponseTopic(error_code=0, name="t", partitions=[element] * 100)]
                ),
                12,
            )
            start = data.index(encode_element(element))
            for _ in range(3):
                found, end, left = runs.read(data, start, 100)
                assert end == start + len(found) * len(encode_element(element))
                assert left == 100 - len(found)
                assert found in ([], [element] * 100)
    assert len(runs._readers) == SHAPES_MAX


def encode_element(element: MetadataResponsePartition) -> bytes:
    """A partition's bytes, cut out of a message around it."""
    topic = MetadataResponseTopic(error_code=0, name="t", partitions=[])
    empty = encode(MetadataResponse(brokers=[], topics=[topic]), 12)
    full = encode(MetadataResponse(brokers=[], topics=[replace(topic, partitions=[element])]), 12)
    size = len(full) - len(empty)
    start = next(index for index, (one, other) in enumerate(zip(empty, full, strict=False)) if one != other) + 1
    return full[start : start + size]
