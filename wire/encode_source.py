"""Writes the source of an encoder: one function for one message at one version.

    def encode(m): ... return b"".join(out)        without records: the bytes
    def encode(m): ... return parts                with records: what stands between them, and they themselves

Fields of fixed width, the length bytes of what follows and empty tag sections are collected into a run and written by
one `pack`; arrays of structs become loops, nested structs stand inline.
"""

from collections.abc import Callable
from functools import cache
from struct import Struct as Packer
from typing import Any

from kpybroker.wire.codec import ENCODE_FAULTS
from kpybroker.wire.decode_source import has_records
from kpybroker.wire.errors import UnencodableMessage, UnsupportedVersion
from kpybroker.wire.primitives import STRING_BYTES_MAX, uvarint
from kpybroker.wire.schema import ArrayOf, Field, Kind, Message, Struct, StructOf, fields_of
from kpybroker.wire.source import MANY, Source, short_packers

Encoder = Callable[[Any], Any]


def compile_encoder(cls: type[Message], version: int) -> Encoder:
    """The encoder of `cls` at `version`. It raises `codec.ENCODE_FAULTS`."""
    return _compile(cls, version, traced=False)


def explain(message: Message, version: int) -> UnencodableMessage:
    """What is wrong with a message that the fast encoder could not write."""
    cls = type(message)
    try:
        _traced_encoder(cls, version)(message)
    except _Located as located:
        cause = located.__cause__
        why = cause.why if isinstance(cause, UnencodableMessage) else str(cause)
        kind = UnsupportedVersion if isinstance(cause, UnsupportedVersion) else UnencodableMessage
        return kind(why, message=cls.__name__, version=version, field=located.args[0])
    raise AssertionError(f"{cls.__name__} v{version}: only one of two encoders fails")


class _Located(Exception):
    """A traced encoder failed: in which field."""


@cache
def _traced_encoder(cls: type[Message], version: int) -> Encoder:
    return _compile(cls, version, traced=True)


def _compile(cls: type[Message], version: int, *, traced: bool) -> Encoder:
    writer = _EncoderWriter(version, version in cls.FLEXIBLE, traced)
    source = writer.source
    source.names |= {
        "uvarint": uvarint,
        "long_text": _long_text,
        "write_tags": _write_tags,
        "lost": _lost,
        "ZERO": b"\0",
    }
    source.names |= {"Located": _Located, "FAULTS": ENCODE_FAULTS}
    writer.whole_message(cls)
    return source.compile("encode", f"encode {cls.__name__} v{version}")


def _long_text(size: int) -> bytes:
    """The compact length (one more than the string's bytes) of a long string."""
    if size > STRING_BYTES_MAX + 1:
        raise UnencodableMessage(f"a string of {size - 1} bytes (limit {STRING_BYTES_MAX})")
    return uvarint(size)


def _lost(value: Any) -> None:
    raise UnsupportedVersion(f"this version has no such field, and it is set to {value!r}")


def _write_tags(out: list[Any], known: list[tuple[int, bytes]], unknown: tuple[tuple[int, bytes], ...]) -> None:
    """Append a section of tagged fields, in the order of their numbers."""
    tags = sorted((*known, *unknown)) if unknown else known
    out.append(uvarint(len(tags)))
    for number, value in tags:
        out.append(uvarint(number) + uvarint(len(value)))
        out.append(value)


class _EncoderWriter:
    """Renders declarations as encoder source. `traced`: note the field before each write, and write one by one."""

    def __init__(self, version: int, flexible: bool, traced: bool) -> None:
        self.source = Source()
        self.version = version
        self.flexible = flexible
        self.traced = traced
        self._run: list[tuple[str, str]] = []  # (format letter, expression) of fixed-width writes not yet written

    def whole_message(self, cls: type[Message]) -> None:
        add, block = self.source.add, self.source.block
        with block("def encode(m)"):
            if not self.traced:
                self.body(cls)
                return
            add("field = ''")
            with block("try"):
                self.body(cls)
            with block("except FAULTS as fault"):
                add("raise Located(field) from fault")

    def body(self, cls: type[Message]) -> None:
        """Write the message and return its bytes, or its parts if it may have records."""
        add = self.source.add
        in_parts = has_records(cls, self.version)
        add("out = []")
        if in_parts:
            add("parts = []")
        self.struct(cls, "m", "")
        if in_parts:
            with self.source.block("if out"):
                add("parts.append(b''.join(out))")
        add("return parts" if in_parts else "return b''.join(out)")

    # ---- runs of fixed width ----

    def put(self, letter: str, expression: str = "") -> None:
        """Write a fixed-width value (or "x": a zero byte), together with its neighbours."""
        self._run.append((letter, expression))
        if self.traced:
            self.flush()

    def flush(self, *last: tuple[str, str], keep: bool = False) -> None:
        """Write the run collected so far and `last` behind it. `keep`: the run stays collected, for another branch."""
        run = [*self._run, *last]
        if not keep:
            self._run = []
        if not run:
            return
        if run == [("x", "")]:
            self.source.add("out.append(ZERO)")
            return
        packer = self.source.packer("".join(letter for letter, _ in run))
        self.source.add(f"out.append({packer}({', '.join(value for _, value in run if value)}))")

    def at(self, path: str) -> None:
        """In a traced encoder, remember where we are."""
        if self.traced:
            self.source.add(f"field = {path!r}")

    # ---- structs ----

    def struct(self, cls: type[Struct], holder: str, path: str) -> None:
        """Write the struct that the variable `holder` is; nothing stays collected."""
        tagged = []
        for field in fields_of(cls):
            value = f"{holder}.{field.name}"
            self.at(f"{path}.{field.name}".lstrip("."))
            if self.version not in field.versions:
                if not field.ignorable:
                    with self.source.block(f"if {self.differs(field, value)}"):
                        self.source.add(f"lost({value})")
            elif field.tag is not None and self.flexible:
                tagged.append(field)
            else:
                self.field(field, value, f"{path}.{field.name}".lstrip("."))
        if self.flexible:
            self.tags(tagged, holder, path)
        else:
            self.flush()

    def differs(self, field: Field, value: str) -> str:
        """The condition that a field is not at its default."""
        default = field.zero
        if default is None:
            return f"{value} is not None"
        if default is False or default == 0 or default == "" or default == []:
            return value if field.nullable == range(0) else f"{value} or {value} is None"
        if isinstance(default, int):
            return f"{value} != {default!r}"
        name = self.source.bind("default", default)  # mostly the very object: asking that first is four times as fast
        return f"({value} is not {name} and {value} != {name})"

    def tags(self, tagged: list[Field], holder: str, path: str) -> None:
        """Write the tagged fields that are set, and those that we don't know; usually there are none."""
        add, block = self.source.add, self.source.block
        unknown = f"{holder}.unknown_tags"
        self.at(f"{path} tags".strip())
        set_ = [self.differs(field, f"{holder}.{field.name}") for field in tagged]
        with block(f"if {' or '.join([unknown, *set_])}"):
            self.flush(keep=True)
            kept, self._run = self._run, []
            tags = self.source.local("tags")
            add(f"{tags} = []")
            for field, condition in sorted(zip(tagged, set_, strict=True), key=lambda pair: pair[0].tag or 0):
                with block(f"if {condition}"):
                    outer = self.source.local("outer")
                    add(f"{outer}, out = out, []")
                    self.field(field, f"{holder}.{field.name}", f"{path}.{field.name}".lstrip("."))
                    self.flush()
                    add(f"{tags}.append(({field.tag}, b''.join(out)))")
                    add(f"out = {outer}")
            add(f"write_tags(out, {tags}, {unknown})")
            self._run = kept
        with block("else"):
            self.flush(("x", ""))

    # ---- fields ----

    def field(self, field: Field, value: str, path: str) -> None:
        """Write a field; what is of fixed width may stay collected."""
        self.at(path)
        nullable = self.version in field.nullable
        compact = self.flexible and field.compact
        match field.type:
            case ArrayOf(element=element):
                self.array(element, value, path, nullable)
            case StructOf(type=cls):
                self.nested(cls, field, value, path, nullable)
            case Kind(format=letter, size=size) if size:
                self.put(letter, value)
            case Kind() as kind:
                self.blob(kind, value, nullable, compact)

    def nested(self, cls: type[Struct], field: Field, value: str, path: str, nullable: bool) -> None:
        """A struct inside a struct. An optional one is preceded by a byte (in a tag: a varint): is it there?"""
        holder = self.source.local(field.name)
        self.source.add(f"{holder} = {value}")
        if not nullable:
            self.struct(cls, holder, path)
            return
        in_tag = field.tag is not None
        self.flush()
        with self.source.block(f"if {holder} is None"):
            self.flush(("b", "0" if in_tag else "-1"))
        with self.source.block("else"):
            self.put("b", "1")
            self.struct(cls, holder, path)

    def blob(self, kind: Kind, value: str, nullable: bool, compact: bool) -> None:
        """A string, bytes or records: a length, then the bytes."""
        add, block = self.source.add, self.source.block
        data, size = self.source.local("data"), self.source.local("n")
        as_bytes = f"{value}.encode()" if kind.name == "string" else value
        null = "0" if compact else "-1"
        measured = f"len({data}) + 1" if compact else f"len({data})"
        if nullable:
            add(f"{data} = {value}")
            with block(f"if {data} is None"):
                add(f"{data} = b''")
                add(f"{size} = {null}")
            with block("else"):
                if kind.name == "string":
                    add(f"{data} = {data}.encode()")
                add(f"{size} = {measured}")
        else:
            add(f"{data} = {as_bytes}")
            add(f"{size} = {measured}")
        self.length(
            size, compact, "h" if kind.name == "string" else "i", "long_text" if kind.name == "string" else "uvarint"
        )
        self.flush()
        if kind.name == "records":
            self.records(data)
        else:
            add(f"out.append({data})")

    def length(self, size: str, compact: bool, letter: str, long_form: str) -> None:
        """Write a length. A compact one has been increased by one already; mostly it takes a byte."""
        if not compact:
            self.put(letter, size)
            return
        with self.source.block(f"if {size} < 128"):
            self.flush(("B", size), keep=True)
        with self.source.block("else"):
            self.flush()
            self.source.add(f"out.append({long_form}({size}))")

    def records(self, data: str) -> None:
        """Pass records through, as a part of their own."""
        add, block = self.source.add, self.source.block
        with block(f"if {data}"):
            add("parts.append(b''.join(out))")
            add(f"parts.append({data})")
            add("out = []")

    # ---- arrays ----

    def array(self, element: Kind | StructOf, value: str, path: str, nullable: bool) -> None:
        """A count, then the elements."""
        add, block = self.source.add, self.source.block
        items, count = self.source.local("items"), self.source.local("n")
        add(f"{items} = {value}")
        if nullable:
            with block(f"if {items} is None"):
                add(f"{items} = ()")
                add(f"{count} = {0 if self.flexible else -1}")
            with block("else"):
                add(f"{count} = len({items})" + (" + 1" if self.flexible else ""))
        else:
            add(f"{count} = len({items})" + (" + 1" if self.flexible else ""))
        self.length(count, self.flexible, "i", "uvarint")
        self.flush()
        if isinstance(element, Kind) and element.size and element.name != "uuid":
            self.integers(element, items)
            return
        item = self.source.local("item")
        with block(f"for {item} in {items}"):
            if isinstance(element, StructOf):
                self.struct(element.type, item, path)
            elif element.name == "uuid":
                self.put("16s", item)
                self.flush()
            else:
                self.blob(element, item, False, self.flexible)

    def integers(self, element: Kind, items: str) -> None:
        """An array of numbers, written at once."""
        add, block = self.source.add, self.source.block
        table = f"short_{element.format}"
        self.source.names.setdefault(table, short_packers(element.format))
        self.source.names["Packer"] = Packer
        with block(f"if len({items}) < {MANY}"):
            add(f"out.append({table}[len({items})](*{items}))")
        with block("else"):
            add(f"out.append(Packer(f'>{{len({items})}}{element.format}').pack(*{items}))")
