"""Writes the source of a decoder: one function for one message at one version.

    def decode(data, p, whole): ... return message       or, if it need not be all of data, (message, p)

The fields are read in the order of the wire. Fields of fixed width, and the length byte(s) of whatever follows them,
are collected into a run and read by one `unpack_from`; arrays of structs become loops, nested structs stand inline.

What keeps bad input from hurting: `p` never moves back, and every read behind the end raises (an index,
`unpack_from`) or gives fewer bytes than asked (a slice), which the next read or the last check of `p` against the end
finds. So a length is never believed before that many bytes are there: loops over an array read at least a byte a
turn; where that isn't so (an array of integers, of uuids, of structs without fields) the count is checked first. A
request has a budget of elements besides.
"""

from collections.abc import Callable
from functools import cache
from struct import Struct as Packer
from typing import Any, NamedTuple

from kpybroker.wire.codec import DECODE_FAULTS
from kpybroker.wire.decode_steps import left_over, long_length, long_text, next_tag, tag_count, unknown_tags, wrong
from kpybroker.wire.errors import MalformedMessage
from kpybroker.wire.primitives import read_uvarint
from kpybroker.wire.schema import RECORDS, ArrayOf, Field, Kind, Message, Struct, StructOf, fields_of
from kpybroker.wire.source import MANY, Source, constant, constructor_call, min_size, short_unpackers
from kpybroker.wire.uniform_runs import UNIFORM_MIN, UniformRuns

REQUEST_ELEMENTS_MAX = 100_000
"""Most elements in all of a request's arrays: a few bytes make an object, and a million of them hold up others."""

COPY_BELOW = 1024
"""Views that may hold records are copied if they are shorter than this: bytes are faster to read than views."""

Decoder = Callable[[bytes | memoryview, int, bool], Any]


def compile_decoder(cls: type[Message], version: int) -> Decoder:
    """The decoder of `cls` at `version`. It raises `codec.DECODE_FAULTS`."""
    return _compile(cls, version, traced=False)


def explain(cls: type[Message], version: int, data: bytes | memoryview, start: int, whole: bool) -> MalformedMessage:
    """What is wrong with input that the fast decoder could not read."""
    try:
        _traced_decoder(cls, version)(data, start, whole)
    except _Located as located:
        cause = located.__cause__
        why = str(cause) if isinstance(cause, (MalformedMessage, UnicodeDecodeError)) else "cut short"
        field, offset = located.args
        return MalformedMessage(why, message=cls.__name__, version=version, field=field, offset=min(offset, len(data)))
    raise AssertionError(f"{cls.__name__} v{version}: only one of two decoders fails")


class _Located(Exception):
    """A traced decoder failed: in which field, at which offset."""


@cache
def _traced_decoder(cls: type[Message], version: int) -> Decoder:
    return _compile(cls, version, traced=True)


def _compile(cls: type[Message], version: int, *, traced: bool) -> Decoder:
    writer = _DecoderWriter(version, version in cls.FLEXIBLE, traced)
    source = writer.source
    source.names |= {
        step.__name__: step
        for step in (read_uvarint, long_length, long_text, next_tag, tag_count, unknown_tags, left_over, wrong)
    }
    source.names |= {"Located": _Located, "FAULTS": DECODE_FAULTS}
    writer.whole_message(cls)
    return source.compile("decode", f"decode {cls.__name__} v{version}")


def has_records(cls: type[Struct], version: int) -> bool:
    """Whether a message has a records field at this version, however deep."""
    for field in fields_of(cls):
        if version in field.versions:
            kind = field.type.element if isinstance(field.type, ArrayOf) else field.type
            if kind == Kind("records") or (isinstance(kind, StructOf) and has_records(kind.type, version)):
                return True
    return False


class _Fork(NamedTuple):
    """A value in the middle of a run that is read only if it isn't empty."""

    place: int  # where in the run what follows it begins
    variable: str
    size: str
    empty: str  # the expression for it when it is null or empty
    compact: bool
    read: Callable[[], None]


def _width(run: list[tuple[str, int, str]]) -> int:
    return sum(size for _, size, _ in run)


class _DecoderWriter:
    """Renders declarations as decoder source. `traced`.

    Note field and position before each read, and read one by one.
    """

    def __init__(self, version: int, flexible: bool, traced: bool) -> None:
        self.source = Source()
        self.version = version
        self.flexible = flexible
        self.traced = traced
        self.text_from_view = False
        self.budgeted = False
        self._run: list[
            tuple[str, int, str]
        ] = []  # (format letter, size, variable) of fixed-width reads not yet written
        self._fork: _Fork | None = None

    def whole_message(self, cls: type[Message]) -> None:
        add, block = self.source.add, self.source.block
        self.text_from_view = has_records(cls, self.version)
        self.budgeted = cls.__name__.endswith("Request")
        with block("def decode(data, p, whole)"):
            add("limit = len(data)")
            if self.budgeted:
                add(f"budget = {REQUEST_ELEMENTS_MAX}")
            if self.text_from_view:
                add("view = memoryview(data)")
            with block("if type(data) is not bytes" + (f" and limit < {COPY_BELOW}" if self.text_from_view else "")):
                add("data = bytes(data)")
            if not self.traced:
                self.body(cls)
                return
            add("field, at = '', p")
            with block("try"):
                self.body(cls)
            with block("except FAULTS as fault"):
                add("raise Located(field, at) from fault")

    def body(self, cls: type[Message]) -> None:
        """Read the message and return it."""
        self.struct(cls, "", "message = {}")
        with self.source.block("if p == limit and whole"):
            self.source.add("return message")
        with self.source.block("if p > limit"):
            self.source.add("wrong('cut short')")
        self.at("")
        with self.source.block("if whole"):
            self.source.add("left_over(limit - p)")
        self.source.add("return message, p")

    # ---- runs of fixed width ----

    def want(self, letter: str, size: int, stem: str) -> str:
        """Read a fixed-width value into a new variable, together with its neighbours."""
        variable = self.source.local(stem)
        self._run.append((letter, size, variable))
        if self.traced:
            self.flush()
        return variable

    def flush(self) -> None:
        """Write the read of the run collected so far."""
        run, self._run = self._run, []
        fork, self._fork = self._fork, None
        if fork is None:
            self.read_run(run)
            return
        before, after = run[: fork.place], run[fork.place :]
        self.unpack(run)
        with self.source.block(f"if {fork.size} < {2 if fork.compact else 1}"):
            self.source.add(f"{fork.variable} = {fork.empty}")
            self.source.add(f"p += {_width(run)}")
        with self.source.block("else"):
            self.source.add(f"p += {_width(before)}")
            fork.read()
            self.read_run(after)

    def read_run(self, run: list[tuple[str, int, str]]) -> None:
        """Read a run and step over it."""
        if run:
            self.unpack(run)
            self.source.add(f"p += {_width(run)}")

    def unpack(self, run: list[tuple[str, int, str]]) -> None:
        """Read a run at `p`."""
        if [letter for letter, _, _ in run] == ["B"]:
            self.source.add(f"{run[0][2]} = data[p]")
        else:
            unpack = self.source.unpacker("".join(letter for letter, _, _ in run))
            targets = ", ".join(variable for _, _, variable in run) + ("," if len(run) == 1 else "")
            self.source.add(f"{targets} = {unpack}(data, p)")

    def optional(self, variable: str, size: str, empty: str, compact: bool, read: Callable[[], None]) -> None:
        """A nullable value whose length `size` is the last of the run; `read` writes what reads it if it isn't empty.

        Mostly it is null or empty. So what follows is read together with what stands before it, as if it were; if it is
        not, what follows is read again. That can't go beyond the end unless the input ends too early anyway.
        """
        if self._fork is None and len(self._run) > 1 and not self.traced:
            self._fork = _Fork(len(self._run), variable, size, empty, compact, read)
            return
        self.flush()
        with self.source.block(f"if {size} < {2 if compact else 1}"):
            self.source.add(f"{variable} = {empty}")
        with self.source.block("else"):
            read()

    def at(self, path: str) -> None:
        """In a traced decoder, remember where we are."""
        if self.traced:
            self.source.add(f"field, at = {path!r}, p")

    def within(self, end: str) -> None:
        """In a traced decoder, check that a value ends before the input does."""
        if self.traced:
            with self.source.block(f"if {end} > limit"):
                self.source.add(f"wrong(f'ends at byte {{{end}}} of {{limit}}')")

    # ---- structs ----

    def struct(self, cls: type[Struct], path: str, use: str) -> None:
        """Read a struct; `use` is the statement that takes it, with {} for it."""
        values: dict[str, str] = {}
        tagged: list[Field] = []
        for field in fields_of(cls):
            if self.version not in field.versions:
                continue
            if field.tag is not None and self.flexible:
                tagged.append(field)
                continue
            values[field.name] = self.field(field, f"{path}.{field.name}".lstrip("."))
        if not self.flexible:
            self.flush()
            self.source.add(use.format(constructor_call(self.source, cls, values)))
            return
        self.at(f"{path} tags".strip())
        count = self.tag_count()
        with self.source.block(f"if {count}"):
            if count != "data[p]":
                self.source.add("p -= 1")  # back to the count, which may be longer
            self.tags(cls, tagged, values, use, path)
        with self.source.block("else"):
            if count == "data[p]":
                self.source.add("p += 1")
            self.source.add(use.format(constructor_call(self.source, cls, values)))

    def tag_count(self) -> str:
        """The expression for the number of tagged fields.

        Read with its neighbours, or where it stands, not stepped over.
        """
        if not self._run:
            return "data[p]"
        count = self.want("B", 1, "tags")
        self.flush()
        return count

    def tags(self, cls: type[Struct], tagged: list[Field], values: dict[str, str], use: str, path: str) -> None:
        """Read the tagged fields, their count first, and build the struct with them."""
        add, block = self.source.add, self.source.block
        unknown = self.source.local("unknown")
        if not tagged:
            add(f"{unknown}, p = unknown_tags(data, p, limit)")
            add(use.format(constructor_call(self.source, cls, values | {"unknown_tags": unknown})))
            return
        found = {field.name: self.source.local(field.name) for field in tagged}
        count, tag, end = self.source.local("count"), self.source.local("tag"), self.source.local("end")
        for field in tagged:
            add(f"{found[field.name]} = {constant(self.source, field.zero)}")
        add(f"{unknown} = []")
        add(f"{count}, p = tag_count(data, p)")
        with block(f"for _ in range({count})"):
            add(f"{tag}, {end}, p = next_tag(data, p, limit)")
            for number, field in enumerate(tagged):
                with block(f"{'elif' if number else 'if'} {tag} == {field.tag}"):
                    value = self.field(field, f"{path}.{field.name}".lstrip("."))
                    self.flush()
                    add(f"{found[field.name]} = {value}")
                    with block(f"if p != {end}"):
                        add("wrong('a tagged field of another size than it says')")
            with block("else"):
                add(f"{unknown}.append(({tag}, bytes(data[p:{end}])))")
                add(f"p = {end}")
        found["unknown_tags"] = f"tuple({unknown})"
        add(use.format(constructor_call(self.source, cls, values | found)))

    # ---- fields ----

    def field(self, field: Field, path: str) -> str:
        """Read a field; returns the variable that holds it (once the run is flushed)."""
        self.at(path)
        nullable = self.version in field.nullable
        compact = self.flexible and field.compact
        match field.type:
            case ArrayOf(element=element):
                return self.array(element, field.name, path, nullable)
            case StructOf(type=cls):
                return self.nested(cls, field, path, nullable)
            case Kind(format=letter, size=size) if size:
                return self.want(letter, size, field.name)
            case Kind() as kind:
                return self.blob(kind, field.name, nullable, compact)

    def nested(self, cls: type[Struct], field: Field, path: str, nullable: bool) -> str:
        """A struct inside a struct. An optional one is preceded by a byte (in a tag: a varint): is it there?"""
        variable = self.source.local(field.name)
        if not nullable:
            self.struct(cls, path, f"{variable} = {{}}")
            return variable
        there = self.want("b", 1, "there")
        self.flush()
        with self.source.block(f"if {there} {'>' if field.tag is not None else '>='} 0"):
            self.struct(cls, path, f"{variable} = {{}}")
        with self.source.block("else"):
            self.source.add(f"{variable} = None")
        return variable

    def blob(self, kind: Kind, stem: str, nullable: bool, compact: bool) -> str:
        """A string, bytes or records: a length, then the bytes."""
        variable = self.source.local(stem)
        size = self.length(compact, "h" if kind.name == "string" else "i")
        long_form = "long_text" if kind.name == "string" else "long_length"
        if kind.name == "records" and compact and not self.traced:
            self.records(variable, size, nullable)
        elif nullable:
            empty = '""' if kind.name == "string" else 'b""' if kind.name == "bytes" else "view[:0]"
            empty = f"{empty} if {size} else None" if compact else f"None if {size} else {empty}"

            def read() -> None:
                if compact:
                    with self.source.block(f"if {size} > 127"):
                        self.source.add(f"{size}, p = {long_form}(data, p, {size})")
                self.slice(kind, variable, size, compact)

            self.optional(variable, size, empty, compact, read)
        else:
            self.flush()
            self.present(size, compact, long_form)
            self.slice(kind, variable, size, compact)
        return variable

    def records(self, variable: str, size: str, nullable: bool) -> None:
        """Records with a compact length. They are long: so is it, and its second byte is read with the first."""
        add, block = self.source.add, self.source.block
        second, end = self.want("B", 1, "second"), self.source.local("end")
        self.flush()
        third = self.source.local("third")
        value = f"{variable} = view[p:{end}]"
        with block(f"if {size} > 127 and {second} < 128"):
            add(
                f"{end} = p + {size} + ({second} << 7) - 129"
            )  # without the first byte's top bit, and what compact adds
            add(value)
            add(f"p = {end}")
        with block(f"elif {size} > 127 and ({third} := data[p]) < 128"):
            add("p += 1")
            add(f"{end} = p + {size} + ({second} << 7) + ({third} << 14) - 16513")
            add(value)
            add(f"p = {end}")
        with block("else"):
            add("p -= 1")
            with block(f"if {size} > 127"):
                add(f"{size}, p = long_length(data, p, {size})")
            with block(f"if {size}"):
                self.slice(RECORDS, variable, size, True)
            with block("else"):
                add(f"{variable} = None" if nullable else "wrong('null where there must be a value')")

    def length(self, compact: bool, letter: str) -> str:
        """Read a length or its first byte. Compact lengths are one more than what they count; 0 is null."""
        return self.want("B", 1, "n") if compact else self.want(letter, 2 if letter == "h" else 4, "n")

    def present(self, size: str, compact: bool, long_form: str) -> None:
        """Finish reading a length that may not be null."""
        if compact:
            with self.source.block(f"if not 0 < {size} < 128"):
                self.source.add(f"{size}, p = {long_form}(data, p, {size})")
        else:
            with self.source.block(f"if {size} < 0"):
                self.source.add("wrong('null where there must be a value')")

    def slice(self, kind: Kind, variable: str, size: str, compact: bool) -> None:
        """Take what is at `p`; a compact `size` is one more than its bytes."""
        end = self.source.local("end")
        self.source.add(f"{end} = p + {size}" + (" - 1" if compact else ""))
        self.within(end)
        self.source.add(f"{variable} = {self.taken(kind, end)}")
        self.source.add(f"p = {end}")

    def taken(self, kind: Kind, end: str) -> str:
        """The expression for the bytes from `p` to `end`, as the field's type wants them."""
        if kind.name == "records":
            return f"view[p:{end}]"
        if kind.name == "string":
            return f"str(data[p:{end}], 'utf-8')" if self.text_from_view else f"data[p:{end}].decode()"
        return f"bytes(data[p:{end}])" if self.text_from_view else f"data[p:{end}]"

    # ---- arrays ----

    def array(self, element: Kind | StructOf, stem: str, path: str, nullable: bool) -> str:
        """A count, then the elements."""
        variable = self.source.local(stem)
        compact = self.flexible
        count = self.length(compact, "i")

        def read() -> None:
            if compact:
                with self.source.block(f"if {count} > 127"):
                    self.source.add(f"{count}, p = long_length(data, p, {count})")
            self.elements(element, variable, count, path)

        if nullable:
            self.optional(
                variable, count, f"[] if {count} else None" if compact else f"None if {count} else []", compact, read
            )
        else:
            self.flush()
            self.present(count, compact, "long_length")
            self.elements(element, variable, count, path)
        return variable

    def elements(self, element: Kind | StructOf, variable: str, count: str, path: str) -> None:
        """Read the elements of an array of known length (in flexible versions `count` is one more)."""
        add, block = self.source.add, self.source.block
        if self.budgeted:
            add(f"budget -= {count}")
            with block("if budget < 0"):
                add(f"wrong('more than {REQUEST_ELEMENTS_MAX} elements')")
        if isinstance(element, Kind) and element.size:
            self.fixed_elements(element, variable, count)
            return
        turns = f"{count} - 1" if self.flexible else count
        if min_size(element, self.version, self.flexible) == 0 or self.traced:
            with block(f"if {turns} > limit - p"):
                add(f"wrong(f'an array of {{{turns}}} elements')")
        if isinstance(element, StructOf):
            self.structs(element.type, variable, turns, path)
            return
        add(f"{variable} = []")
        with block(f"for _ in range({turns})"):
            self.at(path)
            value = self.blob(element, "element", False, self.flexible)
            self.flush()
            add(f"{variable}.append({value})")

    def structs(self, cls: type[Struct], variable: str, turns: str, path: str) -> None:
        """Read an array of structs one by one; a long one as far as possible in bulk."""
        add, block = self.source.add, self.source.block
        each = f"{variable}.append({{}})"
        if self.traced or not UniformRuns.suits(cls, self.version, self.flexible):
            add(f"{variable} = []")
            with block(f"for _ in range({turns})"):
                self.struct(cls, path, each)
            return
        left = self.source.local("left")
        runs = self.source.bind("uniform", UniformRuns(cls, self.version, self.flexible))
        add(f"{left} = {turns}")
        with block(f"if {left} >= {UNIFORM_MIN}"):
            add(f"{variable}, p, {left} = {runs}.read(data, p, {left})")
        with block("else"):
            add(f"{variable} = []")
        with block(f"if {left}"), block(f"for _ in range({left})"):
            self.struct(cls, path, each)

    def fixed_elements(self, element: Kind, variable: str, count: str) -> None:
        """An array of numbers or uuids: their size is checked, then they are read at once."""
        add, block = self.source.add, self.source.block
        turns, end = self.source.local("count"), self.source.local("end")
        add(f"{turns} = {count} - 1" if self.flexible else f"{turns} = {count}")
        with block(f"if {turns}"):
            add(f"{end} = p + {turns}" + (f" * {element.size}" if element.size > 1 else ""))
            with block(f"if {end} > limit"):
                add(f"wrong(f'an array of {{{turns}}} elements')")
            if element.name == "uuid":
                add(f"{variable} = [bytes(data[i:i + 16]) for i in range(p, {end}, 16)]")
            else:
                with block(f"if {turns} < {MANY}"):
                    add(f"{variable} = [*{self.table(element.format)}[{turns}](data, p)]")
                with block("else"):
                    self.source.names["Packer"] = Packer
                    add(f"{variable} = [*Packer(f'>{{{turns}}}{element.format}').unpack_from(data, p)]")
            add(f"p = {end}")
        with block("else"):
            add(f"{variable} = []")

    def table(self, letter: str) -> str:
        """The global name of the packers for short arrays of this width."""
        name = f"short_{letter}"
        self.source.names.setdefault(name, short_unpackers(letter))
        return name
