"""Stories of features and levels of metadata.version: who supports what, and what is written from which level on."""

from __future__ import annotations

from typing import Any

from harness.versions.controller_cases import BROKER
from harness.versions.controller_world import ControllerWorld, features, uuid
from harness.versions.world import Answer
from kpybroker.wire.api_keys import ApiKey


def features_of_all(world: ControllerWorld, version: int) -> Answer:
    """UpdateFeatures: what a registered broker does not support can't be finalized, be it fenced or not."""

    def ask(name: str, level: int, kind: int = 1, **request: Any) -> Answer:
        update = {"feature": name, "max_version_level": level, "upgrade_type": kind, "allow_downgrade": kind != 1}
        return world.done(
            world.ask(ApiKey.UPDATE_FEATURES, version, feature_updates=[update], timeout_ms=30_000, **request)
        )

    down = 2
    answers: dict[str, Answer] = {"as it is": ask("group.version", 1)}
    world.register(1, features=features(group_version=(1, 1), transaction_version=(1, 2), metadata_version=(29, 30)))
    world.register(2, features=features(share_version=(1, 1)))
    answers["lower than one can"] = [
        ask("group.version", 0, down),
        ask("transaction.version", 0, down),
        ask("transaction.version", 1, down),
        ask("transaction.version", 2),
        ask("share.version", 0, down),
        ask("metadata.version", 28, down),
        ask("streams.version", 0, down, validate_only=True),
    ]
    world.heartbeat(1)
    answers["in service"] = ask("group.version", 0, down)
    world.raw(ApiKey.UNREGISTER_BROKER, 0, broker_id=1)
    world.written()
    answers["one is gone"] = [ask("group.version", 0, down), ask("group.version", 1)]
    world.epochs.pop(1)
    answers["ELR"] = [ask("eligible.leader.replicas.version", level, kind) for level, kind in ((0, down), (1, 1))]
    return answers


def elr_is_disabled(world: ControllerWorld, version: int) -> Answer:
    """Eligible leaders go with the feature."""
    world.serve(1, 2)
    topic = world.place("was-elr", [1, 2])

    def ask(level: int, kind: int) -> Answer:
        return _update(world, "eligible.leader.replicas.version", level, kind, version=version)

    answers: dict[str, Answer] = {"one goes": world.fence(1), "disabled": ask(0, 2)}
    answers["the rest"] = [world.fence(2), world.unfence(1), world.unfence(2), world.fence(1)]
    answers["settings"] = [
        world.configure(BROKER, "1", min_insync_replicas="2"),
        world.configure(BROKER, "", min_insync_replicas=None),
    ]
    answers["enabled"] = ask(1, 1)
    answers["a setting"] = world.configure(BROKER, "2", min_insync_replicas="2")
    answers["then"] = [world.fence(2), world.elect(topic, 1)]
    world.configure(BROKER, "", min_insync_replicas="2")
    return answers


def other_controllers(world: ControllerWorld, version: int) -> Answer:
    """ControllerRegistration, of controllers that are no voters; what they support counts from then on."""

    def ask(controller_id: int, **request: Any) -> Answer:
        asked = {
            "controller_id": controller_id,
            "incarnation_id": uuid(90_000 + controller_id % 1000),
            "zk_migration_ready": False,
            "listeners": [{"name": "CONTROLLER", "host": "127.0.0.1", "port": 1, "security_protocol": 0}],
            "features": features(),
        }
        return world.done(world.ask(ApiKey.CONTROLLER_REGISTRATION, version, **{**asked, **request}))

    return {
        "another": ask(7),
        "again": ask(7),
        "on another listener": ask(8, listeners=[{"name": "X", "host": "h", "port": 1, "security_protocol": 0}]),
        "without listeners": ask(9, listeners=[]),
        "without features": ask(10, features=[]),
        "ready to migrate": ask(11, zk_migration_ready=True),
        "odd": [
            ask(-1, features=features(metadata_version=(7, 29))),
            ask(2**31 - 1, features=features(metadata_version=(7, 29))),
        ],
        "repaired": [ask(each) for each in (-1, 2**31 - 1)],
        "described": world.ask(ApiKey.DESCRIBE_CLUSTER, 1, endpoint_type=2),
        "features": [
            _update(world, "group.version", 0, 2),
            _update(world, "group.version", 1, 1),
            _update(world, "metadata.version", 30, 1),
        ],
        "with its features": ask(10),
        "features then": [_update(world, "group.version", 0, 2), _update(world, "group.version", 1, 1)],
        "one that supports less": ask(7, features=features(group_version=(1, 1))),
        "features at last": _update(world, "group.version", 0, 2),
    }


def upgrades(world: ControllerWorld) -> Answer:
    """metadata.version is raised from 3.9-IV0 level by level; what a level brings is written from then on."""
    elr, metadata = "eligible.leader.replicas.version", "metadata.version"
    world.register(1, log_dirs=[world.directory(1), world.directory(1, 1)])
    world.heartbeat(1, cordoned_log_dirs=[world.directory(1)])
    world.serve(2, 3)
    topic = world.place("grown-up", [1, 2, 3], min_insync_replicas="2")
    answers: dict[str, Answer] = {
        "down": [
            _update(world, metadata, level, kind) for level, kind in ((20, 2), (17, 2), (16, 3), (21, 1), (31, 1))
        ],
        "ELR too early": _update(world, elr, 1),
        "other features": [
            _update(world, "group.version", 1),
            _update(world, "transaction.version", 2),
            _update(world, "share.version", 1),
        ],
        "cordoned too early": world.heartbeat(1, cordoned_log_dirs=[world.directory(1)]),
        "one goes": world.fence(3),
        "a new topic": _created(world, "at-21", [1, 2]),
    }
    for level in range(22, 31):
        answers[f"to {level}"] = _update(world, metadata, level)
        if level in (23, 24):
            answers[f"ELR at {level}"] = _update(world, elr, 1)
            answers[f"two go at {level}"] = [world.fence(2), world.unfence(2)]
        if level in (22, 23, 29, 30):
            answers[f"a new topic at {level}"] = _created(world, f"at-{level}", [1, 2])
            answers[f"registered at {level}"] = world.register(4)
    answers["cordoned at last"] = world.heartbeat(1, cordoned_log_dirs=[world.directory(1)])
    answers["all come and go"] = [world.unfence(3), world.fence(1, 2, 3), world.unfence(3), world.elect(topic, 1)]
    answers["down again"] = [_update(world, metadata, level, kind) for level, kind in ((29, 2), (29, 3), (22, 2))]
    return answers


def _created(world: ControllerWorld, what: str, replicas: list[int]) -> Answer:
    name = world.name(what)
    asked = {
        "name": name,
        "num_partitions": -1,
        "replication_factor": -1,
        "assignments": [{"partition_index": 0, "broker_ids": replicas}],
    }
    (made,) = world.raw(ApiKey.CREATE_TOPICS, 7, topics=[asked], timeout_ms=30_000).topics
    world.know(name, made.topic_id)
    written = world.written()
    world.created(name, made.topic_id)
    return [made.error_code, written]


def _update(world: ControllerWorld, name: str, level: int, kind: int = 1, *, version: int = 2) -> Answer:
    update = {"feature": name, "max_version_level": level, "upgrade_type": kind}
    return world.done(world.ask(ApiKey.UPDATE_FEATURES, version, feature_updates=[update], timeout_ms=30_000))
