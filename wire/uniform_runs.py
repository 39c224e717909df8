"""Reading arrays of structs that all look alike: the partitions of a commit, of a topic's metadata.

Most arrays of many elements are of one *shape*: the same strings empty, as many integers in each list, no tagged
field. Then all elements have the same size and layout, and one `iter_unpack` reads them, three times as fast as field
by field. The code for a shape is written when enough elements of it have been seen; each element's lengths are
compared with the shape's, and what differs is left, with all that follows it, to the ordinary code. Shapes come from
the peer, so there is a limit to how many are kept.
"""

from collections.abc import Callable
from struct import Struct as Packer
from struct import error as StructError  # noqa: N812
from typing import Any

from kpybroker.wire.schema import TEXT, ArrayOf, Field, Kind, Struct, StructOf, fields_of
from kpybroker.wire.source import Source, constructor_call

UNIFORM_MIN = 6
"""Arrays shorter than this are not worth looking for a shape."""

SHAPES_MAX = 16
LIST_MAX = 8
COMPILE_AFTER = 64
"""Elements of a shape that must have been seen before code is written for it."""

Shape = tuple[int, ...]
"""The lengths in an element, in the order of the wire, as they stand there (compact ones are one more)."""

RunReader = Callable[[bytes | memoryview, int, int], tuple[list[Any], int, int]]


class UniformRuns:
    """The reader of one array of structs at one version, with the shapes it has met."""

    def __init__(self, cls: type[Struct], version: int, flexible: bool) -> None:
        self._cls = cls
        self._flexible = flexible
        self._version = version
        self._fields = _untagged(cls, version, flexible)
        self._readers: dict[Shape, RunReader] = {}
        self._seen: dict[Shape, int] = {}
        self._shape_of: Callable[[bytes | memoryview, int], Any] | None = None  # written when first needed
        self.read: RunReader = self._look
        """Read those of `count` elements at `p` that share the first one's shape, if known.

        It returns the elements, the position after them, and how many are still to be read, and raises IndexError if
        the input ends within the first element. It is the reader of the shape that was met last: mostly the next array
        is of the same.
        """

    @staticmethod
    def suits(cls: type[Struct], version: int, flexible: bool) -> bool:
        """Whether the elements can have a shape: they have numbers, uuids, strings and lists of numbers only."""
        fields = _untagged(cls, version, flexible)
        return bool(fields) and all(field.compact and _suits(field.type) for field in fields)

    def _look(self, data: bytes | memoryview, p: int, count: int) -> tuple[list[Any], int, int]:
        """As `read`, when the shape is not that of last time."""
        if self._shape_of is None:
            self._shape_of = self._compile_shape_of()
        shape = self._shape_of(data, p)
        reader = self._readers.get(shape) or self._learn(shape, count)
        if reader is None:
            return [], p, count
        self.read = reader
        return reader(data, p, count)

    def _learn(self, shape: Shape | None, count: int) -> RunReader | None:
        """Note that a shape was seen; its reader once that has been often enough."""
        if shape is None or (shape not in self._seen and len(self._seen) >= SHAPES_MAX):
            return None
        seen = self._seen[shape] = self._seen.get(shape, 0) + count
        if seen < COMPILE_AFTER:
            return None
        reader = self._readers[shape] = self._compile_reader(shape)
        return reader

    def _compile_shape_of(self) -> Callable[[bytes | memoryview, int], Any]:
        """Write what finds the shape of the element at `p`; None: it has none that could be read in bulk."""
        source = Source()
        add, block = source.add, source.block
        lengths: list[str] = []
        with block("def shape_of(data, p)"):
            skip = 0
            for field in self._fields:
                if isinstance(field.type, Kind) and field.type.size:
                    skip += field.type.size
                    continue
                n = source.local("n")
                lengths.append(n)
                letter, width = self._length(field)
                if letter == "B":
                    add(f"{n} = data[p + {skip}]")
                else:
                    add(f"{n} = {source.unpacker(letter)}(data, p + {skip})[0]")
                least = self._null if self._version in field.nullable else self._null + 1
                most = self._null + 1 + (LIST_MAX if isinstance(field.type, ArrayOf) else 0)
                with block(f"if not {least} <= {n} <= {most}"):
                    add("return None")
                if isinstance(field.type, ArrayOf):
                    add(f"p += {skip + width}")
                    skip = 0
                    with block(f"if {n} > {self._null + 1}"):
                        add(f"p += ({n} - {self._null + 1}) * {_element_size(field.type)}")
                else:
                    skip += width
            if self._flexible:
                with block(f"if data[p + {skip}]"):
                    add("return None")
            add(f"return ({''.join(n + ', ' for n in lengths)})")
        return source.compile("shape_of", f"shape of {self._cls.__name__}")

    @property
    def _null(self) -> int:
        """The length that means null; one more means empty."""
        return 0 if self._flexible else -1

    def _length(self, field: Field) -> tuple[str, int]:
        """Format letter and size of a field's length."""
        if self._flexible:
            return "B", 1
        return ("h", 2) if field.type == TEXT else ("i", 4)

    def _compile_reader(self, shape: Shape) -> RunReader:
        """Write what reads elements of one shape."""
        source = Source()
        add, block = source.add, source.block
        layout = _Layout(source)
        lengths = iter(shape)
        values: dict[str, str] = {}
        for field in self._fields:
            if isinstance(field.type, Kind) and field.type.size:
                values[field.name] = layout.value(field.type.format)
                continue
            length = next(lengths)
            layout.constant(Packer(">" + self._length(field)[0]).pack(length))
            count = length - self._null - 1
            if count < 0:
                values[field.name] = "None"
            elif isinstance(field.type, ArrayOf):
                items = [layout.value(_element_format(field.type)) for _ in range(count)]
                values[field.name] = f"[{', '.join(items)}]"
            else:
                values[field.name] = '""'
        if self._flexible:
            layout.constant(b"\0")  # no tagged fields
        targets, checks, packer = layout.finish()
        source.names |= {"iter_unpack": packer.iter_unpack, "StructError": StructError, "look": self._look}
        build = constructor_call(source, self._cls, values)
        with block("def read(data, p, count)"):
            add(f"end = p + count * {packer.size}")
            add("found = []")
            with block("try"):
                add("elements = iter_unpack(data[p:end])")
            with block("except StructError"):  # what is left of the input is not so many elements of this shape
                add("return found, p, count")
            with block(f"for {targets} in elements"):
                if checks:
                    with block(f"if {' or '.join(checks)}"):
                        add("break")
                add(f"found.append({build})")
            with block("if len(found) == count"):
                add("return found, end, 0")
            with block("if not found and p < len(data)"):
                add("return look(data, p, count)")
            add(f"return found, p + len(found) * {packer.size}, count - len(found)")
        return source.compile("read", f"read {self._cls.__name__} of shape {shape}")


class _Layout:
    """The format of an element, its variables, and the bytes in it that must be as they are."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._format = ">"
        self._targets: list[str] = []
        self._checks: list[str] = []
        self._fixed = b""

    def value(self, letter: str) -> str:
        """A value of its own; returns its variable."""
        self._end_constant()
        return self._target(letter, "v")

    def constant(self, data: bytes) -> None:
        """Bytes that make the shape."""
        self._fixed += data

    def finish(self) -> tuple[str, list[str], Packer]:
        """Variables as targets of a loop, conditions that an element has another shape, and the whole format."""
        self._end_constant()
        return ", ".join(self._targets) + ",", self._checks, Packer(self._format)

    def _end_constant(self) -> None:
        """Compare neighbouring bytes as one number."""
        while self._fixed:
            size, letter = next((size, letter) for size, letter in _UNSIGNED if size <= len(self._fixed))
            part, self._fixed = self._fixed[:size], self._fixed[size:]
            self._checks.append(f"{self._target(letter, 'k')} != {int.from_bytes(part, 'big')}")

    def _target(self, letter: str, stem: str) -> str:
        variable = self._source.local(stem)
        self._format += letter
        self._targets.append(variable)
        return variable


_UNSIGNED = ((8, "Q"), (4, "I"), (2, "H"), (1, "B"))


def _untagged(cls: type[Struct], version: int, flexible: bool) -> list[Field]:
    return [field for field in fields_of(cls) if version in field.versions and not (flexible and field.tag is not None)]


def _suits(kind: Kind | ArrayOf | StructOf) -> bool:
    match kind:
        case Kind():
            return kind.size > 0 or kind == TEXT
        case ArrayOf(element=Kind() as element):
            return element.size > 0 and element.name != "uuid"
        case _:
            return False


def _element_size(array: ArrayOf) -> int:
    assert isinstance(array.element, Kind)
    return array.element.size


def _element_format(array: ArrayOf) -> str:
    assert isinstance(array.element, Kind)
    return array.element.format
