"""The notation in which Kafka's messages are declared: one class serves all versions of a message.

    @message(key=12, versions="0-4", flexible="4+")
    class HeartbeatRequest(Message):
        group_id: str
        generation_id: Int32
        member_id: str
        group_instance_id: Annotated[str | None, Since(3)] = None      # static membership, KIP-345

A field reads: name, type, what is special about it, default. The order of the declaration is the order on the wire.

    Int8 .. Int64, Uint16, Uint32, Float64, bool, str, bytes, Uuid, Records      the types of the specs
    list[T]                                array; a class derived from Struct: nested, declared above its user
    T | None                               may be null, in every version that has the field, or in Nullable("7+") only
    Since(3), Versions("3-7")              the versions that have the field (left out: all those of its struct)
    Tag(0, since=12)                       a tagged field (KIP-482), there since version 12
    IGNORABLE                              dropped by versions that lack it; set, any other field then refuses to encode
    JsonName("kRaftVersion")               the name in Kafka's JSON, where camelCase of ours differs
    NEVER_COMPACT                          keeps its old encoding in flexible versions

Classes are frozen `msgspec.Struct`s without a cycle collector's header, used as plain containers; `wire/codec.py`
turns the declaration into code at the first use of a version. Type checkers see keyword-only fields and callers keep
to that. At run time the constructor is positional (required fields first), because generated code calls it so:
keywords cost about 10 ns more a field where they are not in the order of the fields.
"""

import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    NamedTuple,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
)

import msgspec

from kpybroker.wire.primitives import ZERO_UUID, Region

VERSIONS_END = 0x8000
"""One past the highest version there can be: "3+" is range(3, VERSIONS_END)."""


def parse_versions(text: str) -> range:
    """The versions that "3", "3-7", "3+" or "none" mean."""
    if text == "none":
        return range(0)
    first, dash, last = text.removesuffix("+").partition("-")
    if text.endswith("+"):
        return range(int(first), VERSIONS_END)
    return range(int(first), int(last if dash else first) + 1)


# ---- types of fields ----


class Kind(NamedTuple):
    """A type of the specs: its name there, and for those of fixed width the letter and size for `struct`."""

    name: str
    format: str = ""
    size: int = 0


class ArrayOf(NamedTuple):
    """An array. `element` is any type but an array."""

    element: "Kind | StructOf"


class StructOf(NamedTuple):
    """A nested struct."""

    type: "type[Struct]"


TEXT = Kind("string")
BYTES = Kind("bytes")
RECORDS = Kind("records")
BOOL = Kind("bool", "?", 1)

Int8 = Annotated[int, Kind("int8", "b", 1)]
Int16 = Annotated[int, Kind("int16", "h", 2)]
Int32 = Annotated[int, Kind("int32", "i", 4)]
Int64 = Annotated[int, Kind("int64", "q", 8)]
Uint16 = Annotated[int, Kind("uint16", "H", 2)]
Uint32 = Annotated[int, Kind("uint32", "I", 4)]
Float64 = Annotated[float, Kind("float64", "d", 8)]
Uuid = Annotated[bytes, Kind("uuid", "16s", 16)]
Records = Annotated[bytes | memoryview | Region, RECORDS]
"""Record batches, opaque: decodes to a memoryview of the input, encodes from anything with a length."""


# ---- what is special about a field ----


class Versions:
    """The field exists in these versions only."""

    def __init__(self, versions: str) -> None:
        self.versions = parse_versions(versions)


class Since(Versions):
    """The field exists from this version on."""

    def __init__(self, version: int) -> None:
        self.versions = range(version, VERSIONS_END)


class Nullable(Versions):
    """The field may be null in these versions only."""


class Tag(Since):
    """A tagged field: on the wire only when it is not at its default, found by its number."""

    def __init__(self, number: int, since: int = 0) -> None:
        super().__init__(since)
        self.number = number


class JsonName(NamedTuple):
    """The field's name in Kafka's JSON."""

    name: str


class _Flag(NamedTuple):
    name: str


IGNORABLE = _Flag("ignorable")
NEVER_COMPACT = _Flag("never compact")


class Field(NamedTuple):
    """One field of a declaration, resolved."""

    name: str
    json_name: str
    type: Kind | ArrayOf | StructOf
    versions: range
    nullable: range
    tag: int | None
    default: Any  # what an absent field is; NO_DEFAULT: the constructor requires it
    ignorable: bool
    compact: bool

    @property
    def zero(self) -> Any:
        """What the field is when nobody says: its default, or its type's zero, empty string, empty array."""
        if self.default is not NO_DEFAULT:
            return self.default
        match self.type:
            case ArrayOf():
                return []
            case StructOf(type=type_):
                return type_(**{field.name: field.zero for field in fields_of(type_)})
            case Kind(name=name):
                return _ZEROS.get(name, 0)


NO_DEFAULT = msgspec.NODEFAULT
_ZEROS = {"string": "", "bytes": b"", "records": b"", "bool": False, "float64": 0.0, "uuid": ZERO_UUID}


# ---- classes ----


@dataclass_transform(frozen_default=True, kw_only_default=True)
class _StructMeta(msgspec.StructMeta):
    """Makes a declaration a frozen msgspec struct whose required fields come first and `unknown_tags` last."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        declared = _annotations(namespace)
        namespace["_declared"] = declared
        if namespace["__module__"] != __name__:  # a declaration, not the bases below
            order = sorted(declared, key=lambda field: _place(declared[field], field in namespace))
            namespace["__annotations__"] = {field: declared[field] for field in order} | {"unknown_tags": tuple}
            namespace["unknown_tags"] = ()
        return super().__new__(mcls, name, bases, namespace, frozen=True, gc=False)


def _annotations(namespace: dict[str, Any]) -> dict[str, Any]:
    """A class body's annotations, leaving out what belongs to the class itself."""
    found = namespace.get("__annotations__")
    if found is None and sys.version_info >= (3, 14):
        import annotationlib

        annotate = annotationlib.get_annotate_from_class_namespace(namespace)
        found = annotationlib.call_annotate_function(annotate, annotationlib.Format.VALUE) if annotate else None
    return {name: hint for name, hint in (found or {}).items() if get_origin(hint) is not ClassVar}


def _place(hint: Any, has_default: bool) -> int:
    """Where a field stands among the constructor's arguments: required, defaulted, tagged."""
    if not has_default:
        return 0
    return 2 if any(isinstance(note, Tag) for note in get_args(hint)) else 1


if TYPE_CHECKING:

    class Struct(metaclass=_StructMeta):
        """A nested struct of a message."""

        unknown_tags: tuple[tuple[int, bytes], ...] = ()

    class Message(Struct):
        """A whole message: a request, a response, a header, a record of an internal log."""

        API_KEY: ClassVar[int]
        VERSIONS: ClassVar[range]
        FLEXIBLE: ClassVar[range]
        decoders: ClassVar[dict[int, Callable[..., Any]]]
        encoders: ClassVar[dict[int, Callable[..., Any]]]

else:

    class Struct(msgspec.Struct, metaclass=_StructMeta):
        """A nested struct of a message.

        `unknown_tags` are the tagged fields that the declaration doesn't know, as (tag, bytes): kept, and written
        again.
        """

    class Message(Struct):
        """A whole message: a request, a response, a header, a record of an internal log.

        API_KEY (the API, or the type of a record; -1: neither), VERSIONS and FLEXIBLE (those with compact lengths and
        tags) are set by `message`. `decoders` and `encoders` hold what was compiled so far, by version.
        """


MessageT = TypeVar("MessageT", bound=Message)
StructT = TypeVar("StructT", bound=Struct)


def message(*, versions: str, flexible: str = "none", key: int = -1) -> Callable[[type[MessageT]], type[MessageT]]:
    """Say of a Message class which versions it has, which are flexible (KIP-482), and its API key or record type."""

    def declare(cls: type[MessageT]) -> type[MessageT]:
        cls.API_KEY = key
        cls.VERSIONS = parse_versions(versions)
        compact = parse_versions(flexible)
        cls.FLEXIBLE = range(max(compact.start, cls.VERSIONS.start), cls.VERSIONS.stop) if compact else compact
        cls.decoders = {}
        cls.encoders = {}
        return cls

    return declare


def replace(struct: StructT, /, **changes: Any) -> StructT:
    """A copy with some fields changed. Raises: TypeError for a name that isn't a field."""
    changed: StructT = msgspec.structs.replace(struct, **changes)  # type: ignore[type-var]
    return changed


# ---- reading declarations ----


@cache
def fields_of(cls: type[Struct]) -> tuple[Field, ...]:
    """The fields of a declaration in the order of the wire."""
    return tuple(_fields(cls))


def _fields(cls: type[Struct]) -> Iterator[Field]:
    defaults = constructor_defaults(cls)
    for name, hint in cls._declared.items():  # type: ignore[attr-defined]
        notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        kind, optional = _kind(hint)
        versions = next(
            (note.versions for note in notes if isinstance(note, Versions) and type(note) is not Nullable), _ALL
        )
        nullable = next(
            (note.versions for note in notes if isinstance(note, Nullable)), versions if optional else range(0)
        )
        yield Field(
            name=name,
            json_name=next((note.name for note in notes if isinstance(note, JsonName)), camel_case(name)),
            type=kind,
            versions=versions,
            nullable=nullable,
            tag=next((note.number for note in notes if isinstance(note, Tag)), None),
            default=defaults[name],
            ignorable=IGNORABLE in notes,
            compact=NEVER_COMPACT not in notes,
        )


_ALL = range(VERSIONS_END)


def _kind(hint: Any) -> tuple[Kind | ArrayOf | StructOf, bool]:
    """The wire type of a type expression, and whether it admits None."""
    if get_origin(hint) is Annotated:
        kind = next((note for note in get_args(hint)[1:] if isinstance(note, Kind)), None)
        return (kind, False) if kind is not None else _kind(get_args(hint)[0])
    if get_origin(hint) is list:
        element, _ = _kind(get_args(hint)[0])
        assert not isinstance(element, ArrayOf), "no spec has an array of arrays"
        return ArrayOf(element), False
    alternatives = [argument for argument in get_args(hint) if argument is not type(None)]
    if alternatives:
        assert len(alternatives) == 1, f"{hint} has more than one type"
        return _kind(alternatives[0])[0], True
    return _SIMPLE.get(hint) or StructOf(hint), False


_SIMPLE = {str: TEXT, bytes: BYTES, bool: BOOL}


def constructor_fields(cls: type[Struct]) -> tuple[str, ...]:
    """The names of the constructor's positional arguments, in order; the last is `unknown_tags`."""
    names: tuple[str, ...] = cls.__struct_fields__
    return names


def constructor_defaults(cls: type[Struct]) -> dict[str, Any]:
    """The default of each constructor argument (NO_DEFAULT where there is none)."""
    found = {}
    for field in msgspec.structs.fields(cls):  # type: ignore[arg-type]
        factory = field.default_factory
        found[field.name] = field.default if factory is msgspec.NODEFAULT else factory()
    return found


def camel_case(name: str) -> str:
    """Kafka's JSON name of one of our field names: "throttle_time_ms" is "throttleTimeMs"."""
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)
