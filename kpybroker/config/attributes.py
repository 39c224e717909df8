"""Settings as typed attributes.

An attribute has the setting's name with the dots as underscores: `config.num_partitions` is `num.partitions`. It is
filled in when the configuration is made, so reading it costs what reading any attribute costs.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Named(Generic[T]):
    """The declaration of one attribute; instances hold the value itself under the same name."""

    def __init__(self, kind: type, *, optional: bool = False) -> None:
        self.kind = kind
        self.optional = optional
        self.setting = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.setting = name.replace("_", ".")

    def __get__(self, instance: object, owner: type | None = None) -> T:
        raise AttributeError(f"{self.setting} is known to a configuration, not to its class")


def boolean() -> Named[bool]:
    """A BOOLEAN setting."""
    return Named(bool)


def integer() -> Named[int]:
    """An INT, SHORT or LONG setting that always has a value."""
    return Named(int)


def number() -> Named[float]:
    """A DOUBLE setting that always has a value."""
    return Named(float)


def optional_integer() -> Named[int | None]:
    """An INT or LONG setting that may be without a value."""
    return Named(int, optional=True)


def text() -> Named[str]:
    """A STRING setting that always has a value."""
    return Named(str)


def optional_text() -> Named[str | None]:
    """A STRING setting that may be without a value."""
    return Named(str, optional=True)


def names() -> Named[tuple[str, ...]]:
    """A LIST setting that always has a value."""
    return Named(tuple)


def optional_names() -> Named[tuple[str, ...] | None]:
    """A LIST setting that may be without a value."""
    return Named(tuple, optional=True)


def declared(owner: type) -> dict[str, Named[object]]:
    """The declarations of a class, by attribute."""
    return {name: each for name, each in vars(owner).items() if isinstance(each, Named)}
