"""Stories of where new partitions go: by the controller's choice, by hand, in racks, past folders that are cordoned."""

from __future__ import annotations

from collections import Counter
from typing import Any

from harness.versions.controller_world import ControllerWorld
from harness.versions.world import Answer
from kpybroker.wire.api_keys import ApiKey


def placement(world: ControllerWorld) -> Answer:
    """Where new partitions go is chance; that they can't go, or can go one way only, is not."""
    topics: list[str] = []

    def create(what: str, partitions: int = 1, factor: int = 1, **request: Any) -> Answer:
        name = world.name(what)
        asked = {"name": name, "num_partitions": partitions, "replication_factor": factor, **request}
        response = world.raw(ApiKey.CREATE_TOPICS, 7, topics=[asked], timeout_ms=30_000)
        if response.topics[0].error_code == 0:
            world.know(name, response.topics[0].topic_id)
        topics.append(name)
        written = world.written()
        world.created(name, response.topics[0].topic_id)
        (made,) = response.topics
        return [made.error_code, made.error_message, made.num_partitions, made.replication_factor, written]

    answers: dict[str, Answer] = {"nobody": [create("none"), create("none", -1, -1)]}
    world.register(1, log_dirs=[world.directory(1), world.directory(1, 1)])
    answers["all fenced"] = create("fenced")
    answers["one fenced of two"] = [world.unfence(1), world.register(2), create("two", 1, 2)]
    answers["more than there are"] = [create("many", 1, 3), create("zero", 1, 0), create("none", 0, 1), create("d", -1)]
    world.unfence(2)
    answers["cordoned"] = [
        world.heartbeat(1, cordoned_log_dirs=[world.directory(1), world.directory(1, 1)]),
        create("around", 3),
        create("too many", 1, 2),
        create("two", 2, 2),
    ]
    answers["by hand, cordoned"] = create("by-hand", -1, -1, assignments=[{"partition_index": 0, "broker_ids": [1]}])
    answers["half of it"] = [world.heartbeat(1, cordoned_log_dirs=[world.directory(1)]), create("one", 1, 3)]
    answers["all cordoned"] = [
        world.heartbeat(1, cordoned_log_dirs=[world.directory(1), world.directory(1, 1)]),
        world.heartbeat(2, cordoned_log_dirs=[world.directory(2)]),
        create("nowhere"),
    ]
    answers["moved to the cordoned"] = world.move(topics[-1], [1])
    answers["uncordoned"] = [world.heartbeat(1, cordoned_log_dirs=[]), create("there", 2)]
    answers["by hand"] = [
        create(f"hand-{number}", partitions, factor, assignments=assignments)
        for number, (partitions, factor, assignments) in enumerate(
            (
                (-1, -1, [_at(0, 1, 2), _at(1, 2)]),
                (-1, -1, [_at(0, 1, 1)]),
                (-1, -1, [_at(0)]),
                (-1, -1, [_at(1, 1)]),
                (-1, -1, [_at(0, 1), _at(0, 2)]),
                (-1, -1, [_at(0, 9)]),
                (-1, -1, [_at(0, -1)]),
                (1, -1, [_at(0, 1)]),
                (-1, 1, [_at(0, 1)]),
            )
        )
    ]
    answers["more partitions"] = [
        _partitions(world, "there", count, places)
        for count, places in ((3, [[1, 2]]), (3, [[1]]), (2, [[1]]), (4, [[1], [2]]), (5, [[9]]), (5, [[]]), (1, None))
    ]
    world.fence(1)
    answers["by hand, fenced"] = [
        create("to-the-fenced", -1, -1, assignments=[_at(0, 1, 2), _at(1, 2, 1)]),
        create("only-fenced", -1, -1, assignments=[_at(0, 1)]),
        _partitions(world, "there", 6, [[1], [1]]),
    ]
    return answers


def _at(index: int, *broker_ids: int) -> dict[str, Any]:
    return {"partition_index": index, "broker_ids": list(broker_ids)}


def _partitions(world: ControllerWorld, what: str, count: int, places: list[list[int]] | None) -> Answer:
    asked = None if places is None else [{"broker_ids": each} for each in places]
    topics = [{"name": world.name(what), "count": count, "assignments": asked}]
    return world.done(world.ask(ApiKey.CREATE_PARTITIONS, 3, topics=topics, timeout_ms=30_000, validate_only=False))


def racks(world: ControllerWorld) -> Answer:
    """In how many racks a partition is, and what fenced brokers get; which broker it is is chance."""
    rack_of: dict[int, str | None] = {}
    away: set[int] = set()

    def serve(rack: str | None, *broker_ids: int) -> None:
        rack_of.update(dict.fromkeys(broker_ids, rack))
        world.serve(*broker_ids, rack=rack)

    def spread(what: str, partitions: int, factor: int) -> Answer:
        name = world.name(what)
        asked = {"name": name, "num_partitions": partitions, "replication_factor": factor}
        (made,) = world.raw(ApiKey.CREATE_TOPICS, 7, topics=[asked], timeout_ms=30_000).topics
        places = [record["replicas"] for kind, record in world.written() if kind.startswith("PartitionRecord")]
        world.created(name, made.topic_id)
        told: dict[str, Answer] = {
            "racks of a partition": sorted({len({rack_of[each] for each in replicas}) for replicas in places}),
            "fenced, and leads": sorted({replicas[0] for replicas in places} & away),
            "fenced, and has replicas": sorted({each for replicas in places for each in replicas} & away),
        }
        if len(set(Counter(rack_of.values()).values())) == 1:  # of racks that are not alike, how many is chance too
            told["leaders in racks"] = dict(sorted(Counter(rack_of[each[0]] or "-" for each in places).items()))
            in_racks = Counter(rack_of[broker_id] or "-" for replicas in places for broker_id in replicas)
            told["replicas in racks"] = dict(sorted(in_racks.items()))
        return told

    answers: dict[str, Answer] = {}
    serve("a", 1, 2)
    serve("b", 3, 4)
    answers["two and two"] = [spread(f"even-{factor}", 16, factor) for factor in (1, 2, 3, 4)]
    serve("c", 5, 6)
    answers["three of two"] = [spread(f"three-{factor}", 24, factor) for factor in (1, 2, 3, 6)]
    serve("c", 7, 8)
    answers["one of four"] = [spread(f"uneven-{factor}", 24, factor) for factor in (1, 3)]
    serve(None, 9)
    answers["one without a rack"] = [spread(f"none-{factor}", 36, factor) for factor in (1, 4)]
    world.fence(1, 5)
    away |= {1, 5}
    answers["fenced ones"] = [spread(f"fenced-{factor}", 28, factor) for factor in (1, 3)]
    world.fence(3, 4)
    away |= {3, 4}
    answers["a rack fenced"] = [spread(f"away-{factor}", 20, factor) for factor in (1, 3)]
    return answers
