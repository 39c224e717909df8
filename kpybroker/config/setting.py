"""One setting: a row of the tables, and the bounds that its value must keep.

A row reads left to right: name, type, default, bounds, when it can be changed, whether it does anything here, what it
is. The bounds are Kafka's, and so are the sentences they refuse with (see `values`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from enum import Enum
from typing import Final, Protocol

import msgspec

from kpybroker.config.values import InvalidValue, Type, Value, parse, refuse, text_of

BOOLEAN: Final = Type.BOOLEAN
STRING: Final = Type.STRING
INT: Final = Type.INT
SHORT: Final = Type.SHORT
LONG: Final = Type.LONG
DOUBLE: Final = Type.DOUBLE
LIST: Final = Type.LIST
CLASS: Final = Type.CLASS
PASSWORD: Final = Type.PASSWORD

INT_MAX: Final = 2**31 - 1
LONG_MAX: Final = 2**63 - 1
DOUBLE_MAX: Final = sys.float_info.max


class Dynamic(Enum):
    """Whether a setting can be changed while the node runs, and for whom (KIP-226)."""

    READ_ONLY = "read-only"
    PER_BROKER = "per-broker"
    CLUSTER_WIDE = "cluster-wide"


STATIC: Final = Dynamic.READ_ONLY
PER_BROKER: Final = Dynamic.PER_BROKER
CLUSTER: Final = Dynamic.CLUSTER_WIDE

USED: Final = True
"""The setting does here what it does in Kafka."""
INERT: Final = False
"""A real setting of Kafka that changes nothing here: accepted, described, and logged once as without effect."""


class Required(Enum):
    """The default of a setting that has none: leaving it out is an error."""

    REQUIRED = "required"


REQUIRED: Final = Required.REQUIRED


class Bounds(Protocol):
    """What a value must keep to."""

    def check(self, name: str, value: Value) -> None:
        """Raise InvalidValue unless the value is within the bounds."""


class Setting(msgspec.Struct, frozen=True, gc=False):
    """One row: everything there is to know of a setting.

    `dynamic` is about broker settings; those of other scopes are dynamic by nature. An internal setting is accepted and
    obeyed, but never listed.
    """

    name: str
    type: Type
    default: Value | Required
    bounds: Bounds | None
    dynamic: Dynamic
    effect: bool
    documentation: str
    internal: bool = False

    @property
    def sensitive(self) -> bool:
        """Whether the value is a secret, which no answer and no log may show."""
        return self.type is Type.PASSWORD

    @property
    def changeable(self) -> bool:
        """Whether it can be changed while the node runs, at least for one broker."""
        return self.dynamic is not Dynamic.READ_ONLY

    @property
    def default_text(self) -> str | None:
        """The default as DescribeConfigs writes it; None if there is none."""
        return None if isinstance(self.default, Required) else text_of(self.default)

    def parse(self, text: str) -> Value:
        """The value of `text`, within bounds. Raises: InvalidValue."""
        value = parse(self.name, text, self.type)
        if isinstance(value, tuple) and isinstance(self.bounds, Items):
            value = tuple(dict.fromkeys(value))
        if self.bounds is not None:
            self.bounds.check(self.name, value)
        return value


def by_name(*tables: Iterable[Setting]) -> dict[str, Setting]:
    """The rows of the tables by name, in their order. Raises: ValueError if one is there twice."""
    rows: dict[str, Setting] = {}
    for table in tables:
        for setting in table:
            if setting.name in rows:
                raise ValueError(f"{setting.name} has two rows")
            rows[setting.name] = setting
    return rows


class Range(msgspec.Struct, frozen=True):
    """A number from `low` up to and including `high` (None: no upper bound)."""

    low: float
    high: float | None = None

    def check(self, name: str, value: Value) -> None:
        assert isinstance(value, int | float)
        if value < self.low:
            refuse(name, value, f"Value must be at least {self.low}")
        if self.high is not None and value > self.high:
            refuse(name, value, f"Value must be no more than {self.high}")


def at_least(low: float) -> Range:
    """Bounded below only."""
    return Range(low)


def between(low: float, high: float) -> Range:
    """Bounded on both sides, both allowed."""
    return Range(low, high)


class RangeOrDefault(msgspec.Struct, frozen=True):
    """A number in a range, or the one number outside it that asks for the default (gzip's level)."""

    low: int
    high: int
    default: int

    def check(self, name: str, value: Value) -> None:
        assert isinstance(value, int)
        if value != self.default and not self.low <= value <= self.high:
            refuse(name, value, f"Value must be between {self.low} and {self.high} or equal to {self.default}")


class OneOf(msgspec.Struct, frozen=True):
    """One of some words; with `any_case`, however they are capitalized."""

    words: tuple[str, ...]
    any_case: bool = False

    def check(self, name: str, value: Value) -> None:
        assert isinstance(value, str)
        if self.any_case:
            if value.upper() not in self.words:
                refuse(name, value, f"String must be one of (case insensitive): {', '.join(self.words)}")
        elif value not in self.words:
            refuse(name, value, f"String must be one of: {', '.join(self.words)}")


def one_of(*words: str) -> OneOf:
    """One of these words, spelt so."""
    return OneOf(words)


def one_of_any_case(*words: str) -> OneOf:
    """One of these words (given in capitals) in any capitalization."""
    return OneOf(words, any_case=True)


class Items(msgspec.Struct, frozen=True):
    """A list without empty items, of some words only if any are given; repetitions are left out (KIP-1161)."""

    words: tuple[str, ...] = ()
    may_be_empty: bool = True

    def check(self, name: str, value: Value) -> None:
        assert isinstance(value, tuple)
        if not value and not self.may_be_empty:
            valid = f"[{', '.join(self.words)}]" if self.words else "any non-empty value"
            raise InvalidValue(f"Configuration '{name}' must not be empty. Valid values include: {valid}")
        for item in value:
            if not item:
                raise InvalidValue(f"Configuration '{name}' values must not be empty.")
            if self.words and item not in self.words:
                refuse(name, item, f"String must be one of: {', '.join(self.words)}")


def items(*words: str) -> Items:
    """A list that may be empty; of these words if any are given."""
    return Items(words)


def some_items(*words: str) -> Items:
    """A list that must not be empty; of these words if any are given."""
    return Items(words, may_be_empty=False)


class NotEmpty(msgspec.Struct, frozen=True):
    """Text of at least one character."""

    def check(self, name: str, value: Value) -> None:
        if value == "":
            refuse(name, value, "String must be non-empty")


class ThrottledReplicas(msgspec.Struct, frozen=True):
    """`*`, or a list of partition:broker pairs: the replicas that a replication quota holds back (KIP-73)."""

    def check(self, name: str, value: Value) -> None:
        assert isinstance(value, tuple)
        if value != ("*",) and not all(_REPLICA.fullmatch(item) for item in value):
            form = "[partitionId]:[brokerId],[partitionId]:[brokerId],..."
            refuse(name, value, f"{name} must be the literal '*' or a list of replicas in the following format: {form}")


class OffsetReset(msgspec.Struct, frozen=True):
    """Where a share group starts: `earliest`, `latest`, or `by_duration:` and an ISO 8601 duration (KIP-932)."""

    def check(self, name: str, value: Value) -> None:
        assert isinstance(value, str)
        if value in ("earliest", "latest"):
            return
        kind, _, duration = value.partition(":")
        if kind != "by_duration" or duration[-1:] in ("P", "T") or not _DURATION.fullmatch(duration):
            form = "'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'"
            refuse(name, value, f"Invalid value `{value}` for configuration {name}. The value must be either {form}.")


class Addresses(msgspec.Struct, frozen=True):
    """A list of host:port, IPv6 in brackets; with `ids`, each with the node's id before it, as 1@host:port."""

    ids: bool = False

    def check(self, name: str, value: Value) -> None:
        assert isinstance(value, tuple)
        form = "id@host:port" if self.ids else "host:port"
        for item in value:
            if not (_VOTER if self.ids else _ADDRESS).fullmatch(item):
                refuse(name, item, f"Each entry should be in the form {form}")


_REPLICA = re.compile(r"([0-9]+:[0-9]+)?")
_DURATION = re.compile(r"P([0-9]+D)?(T([0-9]+H)?([0-9]+M)?([0-9]+(\.[0-9]{1,9})?S)?)?")
_ADDRESS = re.compile(r"(\[[0-9a-zA-Z%._:]+\]|[0-9a-zA-Z\-%._]+):[0-9]+")
_VOTER = re.compile(rf"[0-9]+@{_ADDRESS.pattern}")
