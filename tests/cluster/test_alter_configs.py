"""AlterConfigs and IncrementalAlterConfigs."""

import msgspec.structs
import pytest

from kpybroker.cluster.image import ResourceType
from kpybroker.cluster.machines.alter_configs import alter_configs, incremental_alter_configs
from kpybroker.security.operations import CLUSTER_NAME, Operation, Resource
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.messages import alter_configs as whole
from kpybroker.wire.messages import incremental_alter_configs as single

from .making import CALLER, apply, cluster, config, only, state, topic

TOPIC, BROKER, GROUP, METRICS = (
    ResourceType.TOPIC,
    ResourceType.BROKER,
    ResourceType.GROUP,
    ResourceType.CLIENT_METRICS,
)
SET, DELETE, APPEND, SUBTRACT = range(4)
IMAGE = apply(
    cluster(),
    *topic(1, "t", [1]),
    config(TOPIC, "t", "retention.ms", "5"),
    config(TOPIC, "t", "cleanup.policy", "delete"),
    config(BROKER, "", "min.insync.replicas", "1"),
)
DIRECT = msgspec.structs.replace(CALLER, forwarded=False)


def change(*resources, caller=CALLER, image=IMAGE, validate_only=False):
    """(records, [(code, message)]) of (type, name, [(key, operation, value)])"""
    request = single.IncrementalAlterConfigsRequest(
        resources=[
            single.AlterConfigsResource(
                resource_type=kind,
                resource_name=name,
                configs=[
                    single.AlterableConfig(name=key, config_operation=operation, value=value)
                    for key, operation, value in configs
                ],
            )
            for kind, name, configs in resources
        ],
        validate_only=validate_only,
    )
    decision = incremental_alter_configs(state(image), request, caller)
    assert [(each.resource_type, each.resource_name) for each in decision.response.responses] == [
        (kind, name) for kind, name, _ in resources
    ]
    return list(decision.records), [(each.error_code, each.error_message) for each in decision.response.responses]


def replace(*resources, caller=CALLER, validate_only=False):
    request = whole.AlterConfigsRequest(
        resources=[
            whole.AlterConfigsResource(
                resource_type=kind,
                resource_name=name,
                configs=[whole.AlterableConfig(name=key, value=value) for key, value in configs],
            )
            for kind, name, configs in resources
        ],
        validate_only=validate_only,
    )
    decision = alter_configs(state(IMAGE), request, caller)
    return list(decision.records), [(each.error_code, each.error_message) for each in decision.response.responses]


WELL = [(Code.NONE, None)]


@pytest.mark.parametrize(
    ("resource", "records"),
    [
        pytest.param((TOPIC, "t", [("segment.ms", SET, "9")]), [config(TOPIC, "t", "segment.ms", "9")], id="set"),
        pytest.param((TOPIC, "t", [("retention.ms", SET, "5")]), [], id="set to what it is"),
        pytest.param(
            (TOPIC, "t", [("retention.ms", DELETE, None)]), [config(TOPIC, "t", "retention.ms", None)], id="delete"
        ),
        pytest.param((TOPIC, "t", [("segment.ms", DELETE, "x")]), [], id="delete what is not set"),
        pytest.param(
            (TOPIC, "t", [("cleanup.policy", APPEND, "compact,delete")]),
            [config(TOPIC, "t", "cleanup.policy", "delete,compact")],
            id="append",
        ),
        pytest.param(
            (TOPIC, "t", [("leader.replication.throttled.replicas", APPEND, "0:1")]),
            [config(TOPIC, "t", "leader.replication.throttled.replicas", "0:1")],
            id="append to the default",
        ),
        pytest.param((TOPIC, "t", [("cleanup.policy", SUBTRACT, "compact")]), [], id="subtract what is not there"),
        pytest.param(
            (TOPIC, "t", [("min.insync.replicas", SET, "1")]),
            [config(TOPIC, "t", "min.insync.replicas", "1"), rec.ClearElrRecord(topic_name="t")],
            id="another min.insync.replicas clears eligible leaders",
        ),
        pytest.param(
            (BROKER, "1", [("log.retention.ms", SET, "7")]),
            [config(BROKER, "1", "log.retention.ms", "7")],
            id="a broker's",
        ),
        pytest.param(
            (BROKER, "", [("min.insync.replicas", SET, "1")]),
            [config(BROKER, "", "min.insync.replicas", "1"), rec.ClearElrRecord(topic_name="")],
            id="a broker's config is written even when it stays: files may be reloaded on it",
        ),
        pytest.param(
            (GROUP, "g", [("consumer.session.timeout.ms", SET, "50000")]),
            [config(GROUP, "g", "consumer.session.timeout.ms", "50000")],
            id="a group's",
        ),
        pytest.param(
            (METRICS, "m", [("interval.ms", SET, "60000")]),
            [config(METRICS, "m", "interval.ms", "60000")],
            id="metrics",
        ),
    ],
)
def test_changing(resource, records):
    assert change(resource) == (records, WELL)
    assert change(resource, validate_only=True) == ([], WELL)
    apply(IMAGE, *records)


@pytest.mark.parametrize(
    ("resource", "code", "why"),
    [
        ((TOPIC, "t", [("no.such", SET, "1")]), Code.INVALID_CONFIG, "Unknown topic config name: no.such"),
        (
            (TOPIC, "t", [("retention.ms", SET, "x")]),
            Code.INVALID_CONFIG,
            "Invalid value x for configuration retention.ms: Not a number of type LONG",
        ),
        (
            (TOPIC, "t", [("retention.ms", APPEND, "1")]),
            Code.INVALID_CONFIG,
            "Can't APPEND to key retention.ms because its type is not LIST.",
        ),
        ((TOPIC, "x", [("retention.ms", SET, "1")]), Code.UNKNOWN_TOPIC_OR_PARTITION, "The topic 'x' does not exist."),
        ((TOPIC, "", [("retention.ms", SET, "1")]), Code.INVALID_REQUEST, "Default topic resources are not allowed."),
        (
            (TOPIC, "a b", [("retention.ms", SET, "1")]),
            Code.INVALID_TOPIC_EXCEPTION,
            "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and "
            "'-'",
        ),
        (
            (BROKER, "1", [("min.insync.replicas", SET, "1")]),
            Code.INVALID_CONFIG,
            "Broker-level min.insync.replicas cannot be altered while ELR is enabled.",
        ),
        (
            (BROKER, "", [("min.insync.replicas", DELETE, None)]),
            Code.INVALID_CONFIG,
            "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.",
        ),
        (
            (GROUP, "", [("consumer.session.timeout.ms", SET, "50000")]),
            Code.INVALID_REQUEST,
            "Default group resources are not allowed.",
        ),
        ((GROUP, "g", [("no.such", SET, "1")]), Code.INVALID_CONFIG, "Unknown group config name: no.such"),
        (
            (GROUP, "g", [("consumer.session.timeout.ms", SET, "1")]),
            Code.INVALID_CONFIG,
            "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
        ),
        ((METRICS, "", [("interval.ms", SET, "100")]), Code.INVALID_REQUEST, "Subscription name can't be empty"),
        (
            (METRICS, "m", [("metrics", APPEND, "a")]),
            Code.INVALID_CONFIG,
            "Can't APPEND to key metrics because its type is not LIST.",
        ),
        ((8, "1", [("root", SET, "INFO")]), Code.INVALID_REQUEST, "Unknown resource type BROKER_LOGGER"),
    ],
)
def test_what_can_not_be_changed(resource, code, why):
    assert change(resource) == ([], [(code, why)])


def test_an_operation_that_there_is_not_fails_the_whole_request():
    with pytest.raises(Refused) as refused:
        change((TOPIC, "t", [("segment.ms", SET, "9")]), (TOPIC, "t", [("retention.ms", 7, "1")]))
    assert refused.value.code is Code.UNKNOWN_SERVER_ERROR


def test_without_elr_min_insync_replicas_is_a_setting_like_any_other():
    image = cluster(elr=False)
    records, results = change((BROKER, "1", [("min.insync.replicas", SET, "1")]), image=image)
    assert (records, results) == ([config(BROKER, "1", "min.insync.replicas", "1")], WELL)


@pytest.mark.parametrize(
    ("resource", "code", "why"),
    [
        (
            (TOPIC, "t", [("retention.ms", SET, None)]),
            Code.INVALID_REQUEST,
            "Null value not supported for the operation",
        ),
        ((BROKER, "2", [("log.retention.ms", SET, "1")]), Code.BROKER_ID_NOT_REGISTERED, "No node with id 2 found."),
        (
            (BROKER, "x", [("log.retention.ms", SET, "1")]),
            Code.INVALID_REQUEST,
            "Unable to parse broker name as a base 10 number.",
        ),
        ((BROKER, "-1", [("log.retention.ms", SET, "1")]), Code.INVALID_REQUEST, "Invalid negative broker ID."),
        ((99, "1", [("a", SET, "b")]), Code.UNSUPPORTED_VERSION, "Unknown resource type 99."),
    ],
)
def test_asked_of_a_controller_directly(resource, code, why):
    assert change(resource, caller=DIRECT) == ([], [(code, why)])


def test_cordoned_folders():
    image = apply(IMAGE, config(BROKER, "1", "cordoned.log.dirs", "/a,/b"))
    more = (BROKER, "1", [("cordoned.log.dirs", SET, "/a,/c")])
    fewer = (BROKER, "1", [("cordoned.log.dirs", SET, "/b")])
    assert change(fewer, caller=DIRECT, image=image) == ([config(BROKER, "1", "cordoned.log.dirs", "/b")], WELL)
    records, [(code, why)] = change(more, caller=DIRECT, image=image)
    assert (records, code) == ([], Code.INVALID_CONFIG)
    assert "must be a subset of the current configuration value" in why


def test_resources_of_one_request_stand_for_themselves():
    records, results = change(
        (TOPIC, "t", [("segment.ms", SET, "9")]),
        (TOPIC, "x", [("segment.ms", SET, "9")]),
        (BROKER, "1", [("log.retention.ms", SET, "7")]),
    )
    assert [code for code, _ in results] == [Code.NONE, Code.UNKNOWN_TOPIC_OR_PARTITION, Code.NONE]
    assert len(records) == 2


def test_a_resource_twice():
    twice = (TOPIC, "t", [("segment.ms", SET, "9")])
    assert change(twice, twice) == ([], [(Code.INVALID_REQUEST, "Duplicate resource.")] * 2)


def test_all_of_a_resource_or_nothing():
    assert change((TOPIC, "t", [("segment.ms", SET, "9"), ("retention.ms", SET, "x")]))[0] == []


def test_rights():
    nobody = only()
    assert change((TOPIC, "t", [("segment.ms", SET, "9")]), caller=nobody)[1] == [
        (Code.TOPIC_AUTHORIZATION_FAILED, None)
    ]
    assert change((BROKER, "1", [("log.retention.ms", SET, "7")]), caller=nobody)[1] == [
        (Code.CLUSTER_AUTHORIZATION_FAILED, None)
    ]
    assert change((GROUP, "g", [("consumer.session.timeout.ms", SET, "50000")]), caller=nobody)[1] == [
        (Code.GROUP_AUTHORIZATION_FAILED, None)
    ]
    owner = only(
        (Operation.ALTER_CONFIGS, Resource.TOPIC, "t"), (Operation.ALTER_CONFIGS, Resource.CLUSTER, CLUSTER_NAME)
    )
    assert change((TOPIC, "t", [("segment.ms", SET, "9")]), caller=owner)[1] == WELL
    assert change((BROKER, "1", [("log.retention.ms", SET, "7")]), caller=owner)[1] == WELL


def test_replacing_resets_what_is_not_named():
    records, results = replace((TOPIC, "t", [("retention.ms", "5"), ("segment.ms", "9")]))
    assert results == WELL
    assert records == [config(TOPIC, "t", "segment.ms", "9"), config(TOPIC, "t", "cleanup.policy", None)]
    assert apply(IMAGE, *records).config(TOPIC, "t") == {"retention.ms": "5", "segment.ms": "9"}
    assert replace((TOPIC, "t", []), validate_only=True) == ([], WELL)


def test_replacing_checks_what_it_resets():
    assert replace((BROKER, "", []))[1] == [
        (Code.INVALID_CONFIG, "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.")
    ]
