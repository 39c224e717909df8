"""DeleteTopics: by name, and since version 6 by id."""

from __future__ import annotations

from kpybroker.cluster.image import TopicImage
from kpybroker.cluster.machines.decision import Caller, Decision, State, check_batch, error_of, unique
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import RemoveTopicRecord
from kpybroker.wire.messages.delete_topics import DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse
from kpybroker.wire.primitives import ZERO_UUID


def delete_topics(state: State, request: DeleteTopicsRequest, caller: Caller) -> Decision[DeleteTopicsResponse]:
    """Decide a DeleteTopics request (v1 to 6).

    A caller who may not see a topic learns neither its name from an id nor its id from a name. Raises:
    Refused(TOPIC_DELETION_DISABLED) if delete.topic.enable is false (INVALID_REQUEST before version 3).
    """
    if not state.settings.delete_topic_enable:
        if caller.api_version < 3:
            raise Refused(Code.INVALID_REQUEST, "This version does not support topic deletion.")
        raise Refused(Code.TOPIC_DELETION_DISABLED)
    results, names, ids = _split(request)
    doomed: dict[bytes, TopicImage] = {}
    sees_all = caller.may_cluster(Operation.DELETE)
    for topic_id in ids:
        topic = state.image.topics.by_id.get(topic_id)
        if topic is None:
            results.append(_result(None, topic_id, Code.UNKNOWN_TOPIC_ID, Code.UNKNOWN_TOPIC_ID.message))
        elif sees_all or caller.may(Operation.DELETE, topic.name):
            doomed[topic_id] = topic
        else:
            name = topic.name if caller.may(Operation.DESCRIBE, topic.name) else None
            results.append(_unauthorized(name, topic_id))
    for name in names:
        topic = state.image.topics.by_name.get(name)
        if not (sees_all or caller.may(Operation.DESCRIBE, name)):
            results.append(_unauthorized(name, ZERO_UUID))
        elif topic is None:
            code = Code.UNKNOWN_TOPIC_OR_PARTITION
            results.append(_result(name, ZERO_UUID, code, code.message))
        elif not (sees_all or caller.may(Operation.DELETE, name)):
            results.append(_unauthorized(name, ZERO_UUID))
        elif topic.id in doomed:
            del doomed[topic.id]
            why = "The provided topic name maps to an ID that was already supplied."
            results.append(_result(name, topic.id, Code.INVALID_REQUEST, why))
        else:
            doomed[topic.id] = topic
    records = []
    for topic_id, topic in doomed.items():
        try:
            caller.mutate(len(topic.partitions))
        except Refused as refused:
            results.append(_result(topic.name, topic_id, *error_of(refused)))
        else:
            results.append(_result(topic.name, topic_id, Code.NONE, None))
            records.append(RemoveTopicRecord(topic_id=topic_id))
    check_batch(records)
    return Decision(records, DeleteTopicsResponse(throttle_time_ms=0, responses=results))


def _split(request: DeleteTopicsRequest) -> tuple[list[DeletableTopicResult], list[str], list[bytes]]:
    """What can't be meant, the names, the ids; those given twice are errors, not topics."""
    results: list[DeletableTopicResult] = []
    names, ids = list(request.topic_names), []
    for topic in request.topics:
        if topic.name is None and topic.topic_id == ZERO_UUID:
            why = "Neither topic name nor id were specified."
            results.append(_result(None, ZERO_UUID, Code.INVALID_REQUEST, why))
        elif topic.name is None:
            ids.append(topic.topic_id)
        elif topic.topic_id == ZERO_UUID:
            names.append(topic.name)
        else:
            why = "You may not specify both topic name and topic id."
            results.append(_result(topic.name, topic.topic_id, Code.INVALID_REQUEST, why))
    names, repeated_names = unique(names)
    ids, repeated_ids = unique(ids)
    results += [_result(name, ZERO_UUID, Code.INVALID_REQUEST, "Duplicate topic name.") for name in repeated_names]
    results += [_result(None, id_, Code.INVALID_REQUEST, "Duplicate topic id.") for id_ in repeated_ids]
    return results, names, ids


def _unauthorized(name: str | None, topic_id: bytes) -> DeletableTopicResult:
    code = Code.TOPIC_AUTHORIZATION_FAILED
    return _result(name, topic_id, code, code.message)


def _result(name: str | None, topic_id: bytes, code: int, why: str | None) -> DeletableTopicResult:
    return DeletableTopicResult(name=name, topic_id=topic_id, error_code=code, error_message=why)
