"""Messages as Kafka's canonical JSON, both ways; equal to what Java's generated converters write and read.

Names are camelCase in the order of the declaration. A field that the version lacks, and a tagged field at its
default, are left out. bytes and records are base64, uuids base64url without padding, everything else is what JSON has
for it. Java leaves unknown tagged fields out; here they stand beside the JSON as a list of {"path", "tag", "data" in
hex}.
"""

from binascii import Error as BinasciiError
from binascii import a2b_base64, b2a_base64, unhexlify
from collections.abc import Callable, Iterator
from functools import cache, partial
from math import isfinite
from typing import Any, NamedTuple, TypeVar

from kpybroker.wire.errors import JsonMismatch, UnsupportedVersion
from kpybroker.wire.primitives import uuid_from_text, uuid_text
from kpybroker.wire.schema import ArrayOf, Field, Kind, Message, Struct, StructOf, constructor_fields, fields_of

MessageT = TypeVar("MessageT", bound=Message)
Convert = Callable[[Any], Any]
Tags = tuple[tuple[int, bytes], ...]


def to_json(message: Message, version: int) -> dict[str, Any]:
    """The JSON object of `message` at `version`.

    Raises: UnsupportedVersion for a version that does not exist, or that lacks a field that is set and may not be lost.
    """
    _check_version(type(message), version)
    return _writer(type(message), version)(message)


def from_json(cls: type[MessageT], version: int, value: Any, unknown_tags: Any = ()) -> MessageT:
    """The message that a JSON object is at `version`, with `unknown_tags` as `unknown_tags_of` gives them.

    Raises: UnsupportedVersion; JsonMismatch for a value of the wrong type or out of range, for a name that is no
    field, and for a field without which the version can't be.
    """
    _check_version(cls, version)
    tags = _tags_by_path(unknown_tags)
    message: MessageT = _read_struct(cls, version, value, tags, "")
    if tags:
        raise JsonMismatch(f"unknown_tags: no struct at {min(tags)!r}")
    return message


def unknown_tags_of(message: Message, version: int) -> list[dict[str, Any]]:
    """The tagged fields that the declaration doesn't know.

    Where (the path to their struct), number and bytes in hex.
    """
    found = _unknown_tags(message, version, "")
    return [{"path": path, "tag": tag, "data": data.hex()} for path, tags in found for tag, data in tags]


def _check_version(cls: type[Message], version: int) -> None:
    if version not in cls.VERSIONS:
        raise UnsupportedVersion("no such version", message=cls.__name__, version=version)


# ---- writing ----


@cache
def _writer(cls: type[Struct], version: int) -> Callable[[Struct], dict[str, Any]]:
    """What writes a struct: the fields are looked up once."""
    present = [
        (field.name, field.json_name, _to_json(field.type, version), field.tag is not None, field.zero)
        for field in fields_of(cls)
        if version in field.versions
    ]
    absent = [
        (field.name, field.zero) for field in fields_of(cls) if version not in field.versions and not field.ignorable
    ]

    def write(struct: Struct) -> dict[str, Any]:
        for name, zero in absent:
            if getattr(struct, name) != zero:
                raise UnsupportedVersion(
                    "this version has no such field", message=cls.__name__, version=version, field=name
                )
        out = {}
        for name, json_name, convert, tagged, zero in present:
            value = getattr(struct, name)
            if not (tagged and value == zero):
                out[json_name] = value if convert is None or value is None else convert(value)
        return out

    return write


def _to_json(kind: Kind | ArrayOf | StructOf, version: int) -> Convert | None:
    """What makes JSON of a value of this type; None: nothing needs to be done."""
    match kind:
        case StructOf(type=cls):
            return _writer(cls, version)
        case ArrayOf(element=element):
            convert = _to_json(element, version)
            return list if convert is None else lambda values: [convert(value) for value in values]
        case Kind(name="uuid"):
            return uuid_text
        case Kind(name="bytes" | "records"):
            return lambda value: b2a_base64(value, newline=False).decode("ascii")
        case Kind(name="float64"):
            return lambda value: value if isfinite(value) else _NOT_FINITE[str(value)]
        case _:
            return None


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""JSON has no such numbers; Java writes them as strings."""


def _unknown_tags(struct: Struct, version: int, path: str) -> Iterator[tuple[str, Tags]]:
    if struct.unknown_tags:
        yield path, struct.unknown_tags
    for field in _with_structs(type(struct), version):
        value = getattr(struct, field.name)
        below = f"{path}.{field.json_name}" if path else field.json_name
        if isinstance(value, Struct):
            yield from _unknown_tags(value, version, below)
        elif value is not None:
            for index, item in enumerate(value):
                yield from _unknown_tags(item, version, f"{below}[{index}]")


@cache
def _with_structs(cls: type[Struct], version: int) -> tuple[Field, ...]:
    """The fields that are structs or arrays of structs."""
    return tuple(
        field
        for field in fields_of(cls)
        if version in field.versions
        and isinstance(field.type.element if isinstance(field.type, ArrayOf) else field.type, StructOf)
    )


# ---- reading ----


class _Reader(NamedTuple):
    """How to read a struct: by JSON name, the field's name and what reads its value; and where it goes."""

    fields: dict[str, tuple[str, Callable[[Any, dict[str, Tags], str], Any]]]
    required: tuple[str, ...]
    """JSON names that must be there: fields of this version that are not tagged."""
    zeros: dict[str, Any]


@cache
def _reader(cls: type[Struct], version: int) -> _Reader:
    fields = fields_of(cls)
    return _Reader(
        {field.json_name: (field.name, _from_json(field, version)) for field in fields},
        tuple(field.json_name for field in fields if version in field.versions and field.tag is None),
        {field.name: field.zero for field in fields if version not in field.versions or field.tag is not None},
    )


def _read_struct(cls: type[Struct], version: int, value: Any, tags: dict[str, Tags], path: str) -> Any:
    if type(value) is not dict:
        raise JsonMismatch(f"an object is needed, not {_named(value)}", path)
    reader = _reader(cls, version)
    found = dict(reader.zeros)
    for json_name, item in value.items():
        known = reader.fields.get(json_name)
        if known is None:
            raise JsonMismatch(f"{cls.__name__} has no field {json_name!r}", path)
        name, read = known
        found[name] = read(item, tags, f"{path}.{json_name}" if path else json_name)
    for json_name in reader.required:
        if json_name not in value:
            raise JsonMismatch(f"field {json_name!r} is missing, which version {version} needs", path)
    found["unknown_tags"] = tags.pop(path, ())
    return cls(*[found[name] for name in constructor_fields(cls)])


def _from_json(field: Field, version: int) -> Callable[[Any, dict[str, Tags], str], Any]:
    """What reads a field's value: (value, unknown tags by path, the value's path)."""
    nullable = version in field.nullable or version not in field.versions
    match field.type:
        case ArrayOf(element=element):
            return partial(_read_array, _element_from_json(element, version), nullable)
        case StructOf() as nested:
            read = _element_from_json(nested, version)
            return lambda value, tags, path: None if nullable and value is None else read(value, tags, path)
        case Kind() as kind:
            return partial(_read_simple, kind, nullable)


def _element_from_json(element: Kind | StructOf, version: int) -> Callable[[Any, dict[str, Tags], str], Any]:
    match element:
        case StructOf(type=cls):
            return lambda value, tags, path: _read_struct(cls, version, value, tags, path)
        case Kind() as kind:
            return partial(_read_simple, kind, False)


def _read_array(
    read: Callable[[Any, dict[str, Tags], str], Any], nullable: bool, value: Any, tags: dict[str, Tags], path: str
) -> Any:
    if value is None and nullable:
        return None
    if type(value) is not list:
        raise JsonMismatch(f"an array is needed, not {_named(value)}", path)
    return [read(item, tags, f"{path}[{index}]") for index, item in enumerate(value)]


def _read_simple(kind: Kind, nullable: bool, value: Any, _tags: dict[str, Tags], path: str) -> Any:
    if value is None:
        if nullable:
            return None
        raise JsonMismatch("null, which it can't be", path)
    match kind.name:
        case "string" if type(value) is str:
            return value
        case "bool" if type(value) is bool:
            return value
        case "float64" if type(value) in (int, float, str):
            return _float(value, path)
        case "uuid" if type(value) is str:
            try:
                return uuid_from_text(value)
            except ValueError as fault:
                raise JsonMismatch(str(fault), path) from None
        case "bytes" | "records" if type(value) is str:
            try:
                return a2b_base64(value, strict_mode=True)
            except (BinasciiError, ValueError):
                raise JsonMismatch("not base64", path) from None
        case _ if kind.name in _RANGES and type(value) is int:
            if value not in _RANGES[kind.name]:
                raise JsonMismatch(f"{value} is no {kind.name}", path)
            return value
    raise JsonMismatch(f"a {kind.name} is needed, not {_named(value)}", path)


_RANGES = {f"int{bits}": range(-(1 << bits - 1), 1 << bits - 1) for bits in (8, 16, 32, 64)}
_RANGES |= {f"uint{bits}": range(1 << bits) for bits in (16, 32)}


def _float(value: float | str, path: str) -> float:
    if isinstance(value, str) and value not in _NOT_FINITE.values():
        raise JsonMismatch(f"a float64 is needed, not {value!r}", path)
    try:
        return float(value)
    except OverflowError:
        raise JsonMismatch("no float64 is so large", path) from None


def _named(value: Any) -> str:
    """What a JSON value is, for people."""
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


def _tags_by_path(unknown_tags: Any) -> dict[str, Tags]:
    """Unknown tagged fields by the path of their struct, each with its number and bytes."""
    if not unknown_tags:
        return {}
    found: dict[str, Tags] = {}
    try:
        for entry in unknown_tags:
            path, tag, data = entry["path"], entry["tag"], unhexlify(entry["data"])
            if type(path) is not str or type(tag) is not int or not 0 <= tag <= 0x7FFFFFFF:
                raise TypeError
            found[path] = (*found.get(path, ()), (tag, data))
    except (KeyError, TypeError, ValueError, LookupError):
        raise JsonMismatch('an array of {"path", "tag", "data" in hex} is needed', "unknown_tags") from None
    return found
