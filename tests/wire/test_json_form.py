"""Kafka's JSON: what is refused, and with which words. What is accepted: the vectors, in test_codec."""

import math
from typing import Any

import pytest

from kpybroker.wire.codec import encode
from kpybroker.wire.errors import JsonMismatch, UnsupportedVersion
from kpybroker.wire.internal.metadata_records import ClientQuotaRecord
from kpybroker.wire.json_form import from_json, to_json
from kpybroker.wire.messages.fetch import FetchRequest
from kpybroker.wire.messages.heartbeat import HeartbeatRequest
from kpybroker.wire.messages.produce import ProduceRequest

HEARTBEAT = {"groupId": "g", "generationId": 1, "memberId": "m", "groupInstanceId": None}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param({"groupId": 1}, "groupId: a string is needed, not a number", id="number for a string"),
        pytest.param({"groupId": None}, "groupId: null, which it can't be", id="null"),
        pytest.param({"generationId": "1"}, "generationId: a int32 is needed, not a string", id="string for a number"),
        pytest.param(
            {"generationId": True}, "generationId: a int32 is needed, not a boolean", id="boolean for a number"
        ),
        pytest.param(
            {"generationId": 1.0}, "generationId: a int32 is needed, not a number", id="fraction for a number"
        ),
        pytest.param({"generationId": 1 << 31}, "generationId: 2147483648 is no int32", id="too large"),
        pytest.param({"generationID": 1}, "HeartbeatRequest has no field 'generationID'", id="unknown name"),
    ],
)
def test_mismatch(change: dict[str, Any], why: str) -> None:
    with pytest.raises(JsonMismatch) as caught:
        from_json(HeartbeatRequest, 4, HEARTBEAT | change)
    assert str(caught.value) == why


@pytest.mark.parametrize("value", [None, [], "x", 1, True])
def test_not_an_object(value: Any) -> None:
    with pytest.raises(JsonMismatch, match="an object is needed"):
        from_json(HeartbeatRequest, 4, value)


def test_missing() -> None:
    with pytest.raises(JsonMismatch, match="'memberId' is missing"):
        from_json(HeartbeatRequest, 0, {"groupId": "g", "generationId": 1})


def test_the_path_into_arrays() -> None:
    topic = {"name": "t", "partitionData": [{"index": 0, "records": "AA=="}, {"index": 1, "records": "A"}]}
    value = {"transactionalId": None, "acks": 1, "timeoutMs": 2, "topicData": [topic]}
    with pytest.raises(JsonMismatch) as caught:
        from_json(ProduceRequest, 9, value)
    assert str(caught.value) == "topicData[0].partitionData[1].records: not base64"
    with pytest.raises(JsonMismatch, match="topicData: an array is needed, not an object"):
        from_json(ProduceRequest, 9, value | {"topicData": {}})
    topics = [{"topicId": "x", "partitionData": []}]
    with pytest.raises(JsonMismatch, match=r"topicData\[0\].topicId: not an id"):
        from_json(ProduceRequest, 13, value | {"topicData": topics})


def test_tagged_fields_may_be_left_out() -> None:
    value = {"maxWaitMs": 1, "minBytes": 1, "maxBytes": 1, "isolationLevel": 0, "sessionId": 0, "sessionEpoch": -1}
    value |= {"topics": [], "forgottenTopicsData": [], "rackId": ""}  # type: ignore[dict-item]
    request = from_json(FetchRequest, 18, value)
    assert request.replica_state.replica_id == -1
    assert to_json(request, 18) == value
    follower = value | {"replicaState": {"replicaId": 2, "replicaEpoch": 3}}
    assert to_json(from_json(FetchRequest, 18, follower), 18) == follower


def test_versions() -> None:
    with pytest.raises(UnsupportedVersion):
        from_json(HeartbeatRequest, 5, HEARTBEAT)
    static = from_json(HeartbeatRequest, 4, HEARTBEAT | {"groupInstanceId": "i"})
    with pytest.raises(UnsupportedVersion, match="group_instance_id"):
        to_json(static, 2)
    with pytest.raises(UnsupportedVersion):
        to_json(static, 5)


@pytest.mark.parametrize(
    "tags", ["x", [1], [{"path": "", "tag": 1}], [{"path": "", "tag": -1, "data": ""}], {"path": ""}]
)
def test_unknown_tags_of_the_wrong_form(tags: Any) -> None:
    with pytest.raises(JsonMismatch, match="unknown_tags"):
        from_json(HeartbeatRequest, 4, HEARTBEAT, tags)


def test_unknown_tags_without_their_struct() -> None:
    with pytest.raises(JsonMismatch, match=r"no struct at 'topics\[0\]'"):
        from_json(HeartbeatRequest, 4, HEARTBEAT, [{"path": "topics[0]", "tag": 9, "data": "00"}])


@pytest.mark.parametrize(
    ("value", "text"), [(math.inf, "Infinity"), (-math.inf, "-Infinity"), (0.5, 0.5), (-0.0, -0.0)]
)
def test_floats(value: float, text: Any) -> None:
    record = ClientQuotaRecord(entity=[], key="k", value=value, remove=False)
    assert to_json(record, 0)["value"] == text
    assert encode(from_json(ClientQuotaRecord, 0, to_json(record, 0)), 0) == encode(record, 0)


def test_not_a_number() -> None:
    record = ClientQuotaRecord(entity=[], key="k", value=math.nan, remove=False)
    assert to_json(record, 0)["value"] == "NaN"
    assert math.isnan(from_json(ClientQuotaRecord, 0, to_json(record, 0)).value)
    wrong: Any
    for wrong in ("nan", "1.0", [], 10**400):
        with pytest.raises(JsonMismatch):
            from_json(ClientQuotaRecord, 0, to_json(record, 0) | {"value": wrong})
