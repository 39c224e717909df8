"""Each declaration against Kafka's spec of the message, field by field; none is missing, none is of our own making."""

from collections.abc import Iterator
from typing import Any

import pytest

from kpybroker.wire.catalogue import all_messages, message_class
from kpybroker.wire.schema import (
    NO_DEFAULT,
    VERSIONS_END,
    ArrayOf,
    Field,
    Kind,
    Message,
    Struct,
    StructOf,
    fields_of,
    parse_versions,
)

Specs = dict[str, dict[str, Any]]


def common(left: range, right: range) -> range:
    """The versions in both."""
    start, stop = max(left.start, right.start), min(left.stop, right.stop)
    return range(start, max(start, stop))


def declared_type(field: Field) -> str:
    match field.type:
        case ArrayOf(element=StructOf(type=cls)):
            return "[]" + cls.__name__
        case ArrayOf(element=Kind(name=name)):
            return "[]" + name
        case StructOf(type=cls):
            return cls.__name__
        case Kind(name=name):
            return name
    raise AssertionError(field)


def spec_default(spec: dict[str, Any], kind: str) -> Any:
    """What the spec says an absent field is; None for null; NO_DEFAULT: not said."""
    default = spec.get("default")
    if default is None:
        return NO_DEFAULT
    if default == "null":
        return None
    if kind == "bool":
        return str(default).lower() == "true"
    return default if kind == "string" else int(str(default), 0)


def zero(kind: str) -> Any:
    """What a field is when the spec has no default for it."""
    if kind.startswith("[]"):
        return []
    return {"string": "", "bytes": b"", "records": b"", "bool": False, "float64": 0.0, "uuid": bytes(16)}.get(kind, 0)


class Comparison:
    """One message's declaration beside its spec; `faults` says where they differ."""

    def __init__(self, spec: dict[str, Any], cls: type[Message]) -> None:
        self.faults: list[str] = []
        self.valid = parse_versions(spec["validVersions"])
        self.common_structs = {struct["name"]: struct for struct in spec.get("commonStructs", [])}
        flexible = common(parse_versions(spec.get("flexibleVersions", "none")), self.valid)
        self.equal(cls.__name__, "versions", cls.VERSIONS, self.valid)
        self.equal(cls.__name__, "flexible versions", list(cls.FLEXIBLE), list(flexible))
        self.equal(cls.__name__, "key", cls.API_KEY, -1 if spec.get("apiKey") is None else spec["apiKey"])
        self.fields(cls.__name__, cls, spec.get("fields", []), self.valid)

    def equal(self, path: str, what: str, ours: Any, theirs: Any) -> None:
        if ours != theirs:
            self.faults.append(f"{path}: {what} {ours!r}, in the spec {theirs!r}")

    def fields(self, path: str, cls: type[Struct], specs: list[dict[str, Any]], there: range) -> None:
        """Compare a struct's fields, in order, in the versions that have the struct."""
        ours = fields_of(cls)
        names = [spec["name"][0].lower() + spec["name"][1:] for spec in specs]
        self.equal(path, "fields", [field.json_name for field in ours], names)
        for field, spec in zip(ours, specs, strict=False):
            self.field(f"{path}.{field.name}", field, spec, there)

    def field(self, path: str, field: Field, spec: dict[str, Any], there: range) -> None:
        kind = spec["type"]
        versions = common(parse_versions(spec.get("versions") or spec["taggedVersions"]), there)
        nullable = common(parse_versions(spec.get("nullableVersions", "none")), versions)
        self.equal(path, "versions", list(common(field.versions, there)), list(versions))
        self.equal(path, "nullable versions", list(common(field.nullable, versions)), list(nullable))
        self.equal(path, "tag", field.tag, spec.get("tag"))
        if field.tag is not None:
            tagged = common(parse_versions(spec["taggedVersions"]), there)
            self.equal(path, "tagged versions", list(common(field.versions, there)), list(tagged))
        self.equal(path, "ignorable", field.ignorable, bool(spec.get("ignorable", False)))
        self.equal(path, "compact", field.compact, spec.get("flexibleVersions") != "none")
        nested = kind.removeprefix("[]")[0].isupper()
        ours, theirs = declared_type(field), kind
        # Two structs of one name, of a request and its response say, are told apart by what stands before the name.
        if not (
            nested and ours.startswith("[]") == theirs.startswith("[]") and ours.endswith(theirs.removeprefix("[]"))
        ):
            self.equal(path, "type", ours, theirs)
        self.default(path, field, spec, nested)
        if nested:
            element = field.type.element if isinstance(field.type, ArrayOf) else field.type
            assert isinstance(element, StructOf)
            below = spec.get("fields") or self.common_structs[kind.removeprefix("[]")]["fields"]
            self.fields(path, element.type, below, versions)

    def default(self, path: str, field: Field, spec: dict[str, Any], nested: bool) -> None:
        theirs = spec_default(spec, spec["type"])
        if theirs is not NO_DEFAULT:
            self.equal(path, "default", field.default, theirs)
        elif not nested or spec["type"].startswith("[]"):
            self.equal(path, "zero", field.zero, zero(spec["type"]))
            everywhere = parse_versions(spec.get("versions") or spec["taggedVersions"])
            if field.default is not NO_DEFAULT and set(self.valid) <= set(everywhere) and field.tag is None:
                self.faults.append(f"{path}: has a default, in the spec it hasn't and is in all versions")


def with_versions(specs: Specs) -> Iterator[str]:
    for name, spec in specs.items():
        if spec["validVersions"] != "none":
            yield name


def test_all_are_declared_and_no_others(specs: Specs) -> None:
    assert sorted(cls.__name__ for cls in all_messages()) == sorted(with_versions(specs))


def test_declarations_agree_with_the_specs(specs: Specs) -> None:
    faults = []
    for name in with_versions(specs):
        faults += Comparison(specs[name], message_class(name)).faults
    assert faults == []


def test_a_difference_is_found(specs: Specs) -> None:
    """The comparison itself: a spec that was changed in one place at a time is told from the declaration."""
    spec = specs["FetchResponse"]
    cls = message_class("FetchResponse")
    (throttle, *_), partition = spec["fields"], spec["fields"][3]["fields"][2]["fields"]
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (throttle, {"name": "ThrottleMs"}),
        (throttle, {"type": "int64"}),
        (throttle, {"versions": "5+"}),
        (throttle, {"ignorable": False}),
        (throttle, {"default": "3"}),
        (throttle, {"nullableVersions": "4+"}),
        (partition[5], {"tag": 7}),
        (partition[5], {"versions": "13+", "taggedVersions": "13+"}),
        (partition[3], {"default": "-2"}),
        (spec, {"validVersions": "4-19"}),
        (spec, {"flexibleVersions": "11+"}),
        (spec, {"apiKey": 2}),
    ]
    assert Comparison(spec, cls).faults == []
    for target, change in changes:
        kept = dict(target)
        target.update(change)
        assert Comparison(spec, cls).faults, change
        target.clear()
        target.update(kept)


def test_constructors_are_keyword_only_for_people() -> None:
    """What has no default must be given; the order of the declaration does not matter."""
    from kpybroker.wire.messages.heartbeat import HeartbeatRequest

    with pytest.raises(TypeError, match="group_id"):
        HeartbeatRequest(generation_id=1, member_id="m")  # type: ignore[call-arg]
    request = HeartbeatRequest(member_id="m", generation_id=1, group_id="g")
    assert (request.group_id, request.group_instance_id, request.unknown_tags) == ("g", None, ())
    with pytest.raises(AttributeError):
        request.group_id = "h"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "versions"),
    [("3", range(3, 4)), ("3-7", range(3, 8)), ("3+", range(3, VERSIONS_END)), ("none", range(0))],
)
def test_versions(text: str, versions: range) -> None:
    assert parse_versions(text) == versions
