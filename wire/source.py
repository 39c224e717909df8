"""What the two code generators share: lines of source, names, precompiled `struct.Struct`s, compiling."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from struct import Struct as Packer
from typing import Any

from kpybroker.wire.schema import ArrayOf, Kind, Struct, StructOf, constructor_fields, fields_of


class Source:
    """Python source in the making, and the global names that it will see."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {}
        self._depth = 0
        self._taken = 0

    def add(self, line: str) -> None:
        """Append one line at the current indentation."""
        self.lines.append("    " * self._depth + line)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """`head:` and what is added inside, one level in."""
        self.add(head + ":")
        self._depth += 1
        yield
        self._depth -= 1

    def local(self, stem: str) -> str:
        """A local variable that nothing else uses."""
        self._taken += 1
        return f"{stem}_{self._taken}"

    def bind(self, stem: str, value: Any) -> str:
        """A global name for `value`."""
        name = f"{stem}_{len(self.names)}"
        self.names[name] = value
        return name

    def unpacker(self, layout: str) -> str:
        """The global name of `unpack_from` for a big-endian layout. Bound once.

        Looking it up costs as much as the call.
        """
        name = f"unpack_{layout.replace('?', '_bool_')}"
        self.names.setdefault(name, Packer(">" + layout).unpack_from)
        return name

    def packer(self, layout: str) -> str:
        """The global name of `pack` for a big-endian layout."""
        name = f"pack_{layout.replace('?', '_bool_')}"
        self.names.setdefault(name, Packer(">" + layout).pack)
        return name

    def compile(self, function: str, title: str) -> Callable[..., Any]:
        """Run the source and hand out the function that it defines. `title` stands for the file name in tracebacks."""
        exec(compile("\n".join(self.lines), f"<{title}>", "exec"), self.names)
        compiled: Callable[..., Any] = self.names[function]
        return compiled


def constructor_call(source: Source, cls: type[Struct], values: dict[str, str]) -> str:
    """The call that builds a struct from the expressions of its fields.

    Defaults are left to it where they come last.
    """
    fields = {field.name: field for field in fields_of(cls)}
    names = constructor_fields(cls)
    while names and names[-1] not in values:
        names = names[:-1]
    arguments = [values[name] if name in values else constant(source, fields[name].zero) for name in names]
    return f"{source.bind(cls.__name__, cls)}({', '.join(arguments)})"


def constant(source: Source, value: Any) -> str:
    """An expression for a default."""
    if value is None or isinstance(value, (bool, int, str)) or value == []:
        return repr(value)
    return source.bind("default", value)


MANY = 64
"""Arrays of integers up to this length have their packer in a table."""


@cache
def short_unpackers(letter: str) -> list[Callable[..., tuple[Any, ...]]]:
    """`unpack_from` for 0, 1, 2 ... numbers of one width."""
    return [Packer(f">{count}{letter}").unpack_from for count in range(MANY)]


@cache
def short_packers(letter: str) -> list[Callable[..., bytes]]:
    """`pack` for 0, 1, 2 ... numbers of one width."""
    return [Packer(f">{count}{letter}").pack for count in range(MANY)]


def min_size(kind: Kind | ArrayOf | StructOf, version: int, flexible: bool) -> int:
    """The fewest bytes that a value of this type takes."""
    match kind:
        case StructOf(type=cls):
            fields = [field for field in fields_of(cls) if version in field.versions and field.tag is None]
            sizes = [
                1 if _one_byte(field.type, version in field.nullable) else min_size(field.type, version, flexible)
                for field in fields
            ]
            return sum(sizes) + flexible
        case Kind(size=size) if size:
            return size
        case Kind(name="string"):
            return 1 if flexible else 2
        case _:
            return 1 if flexible else 4


def _one_byte(kind: Kind | ArrayOf | StructOf, nullable: bool) -> bool:
    """Whether null takes one byte: a struct that is absent."""
    return nullable and isinstance(kind, StructOf)
