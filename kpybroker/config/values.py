"""Kafka's configuration types: how the text of a value is read, and how a value is written back as text.

The same file and the same request must mean the same here as in Kafka, so these are the rules of Kafka's ConfigDef:
blanks around a value do not count, "TRUE" is true, a list is cut at commas, and a number is what Java's parsers take (a
sign is fine, underscores are not). The sentences of `InvalidValue` are Kafka's as well: clients get to see them.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NoReturn, TypeAlias


class Type(IntEnum):
    """The types, numbered as DescribeConfigs reports them."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7
    CLASS = 8
    PASSWORD = 9


class Password:
    """A secret. Only `value` shows it: text, logs and tracebacks get "[hidden]"."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "[hidden]"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Password) and other.value == self.value

    def __hash__(self) -> int:
        return hash(self.value)


Value: TypeAlias = bool | int | float | str | tuple[str, ...] | Password | None


class InvalidValue(ValueError):
    """A value that a setting does not take. The text is one line, the one Kafka answers with."""


def refuse(name: str, value: Value, why: str) -> NoReturn:
    """Raise InvalidValue in Kafka's form of words."""
    raise InvalidValue(f"Invalid value {shown(value)} for configuration {name}: {why}")


def parse(name: str, text: str, type_: Type) -> Value:
    """The value that `text` stands for. Raises: InvalidValue."""
    trimmed = text.strip(_BLANKS)
    match type_:
        case Type.BOOLEAN:
            if trimmed.lower() not in ("true", "false"):
                refuse(name, text, "Expected value to be either true or false")
            return trimmed.lower() == "true"
        case Type.INT | Type.SHORT | Type.LONG:
            number = int(trimmed) if trimmed[trimmed[:1] in ("+", "-") :].isdecimal() else None
            bits = _BITS[type_]
            if number is None or not -(1 << bits - 1) <= number < 1 << bits - 1:
                refuse(name, text, f"Not a number of type {type_.name}")
            return number
        case Type.DOUBLE:
            if not _DOUBLE.fullmatch(trimmed):
                refuse(name, text, "Not a number of type DOUBLE")
            return float(trimmed.rstrip("fFdD") if trimmed[-1] in "fFdD" else trimmed.replace("Infinity", "inf"))
        case Type.LIST:
            return tuple(_COMMA.split(trimmed)) if trimmed else ()
        case Type.PASSWORD:
            return Password(trimmed)
        case Type.STRING | Type.CLASS:
            return trimmed


def text_of(value: Value) -> str | None:
    """The value as Kafka writes it in DescribeConfigs and in records; None stands for no value.

    Secrets are written out: whoever answers a client leaves sensitive values away before.
    """
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case float():
            return _java_double(value)
        case tuple():
            return ",".join(value)
        case Password():
            return value.value
        case _:
            return str(value)


def shown(value: Value) -> str:
    """The value as it stands in Kafka's error sentences: lists in brackets, secrets hidden, null for none."""
    match value:
        case None:
            return "null"
        case tuple():
            return f"[{', '.join(value)}]"
        case Password():
            return repr(value)
        case _:
            return text_of(value) or ""


def _java_double(number: float) -> str:
    """As Java's Double.toString: plain from 0.001 up to ten million, else with a power of ten ("2.147483647E9")."""
    if number != number or number in (float("inf"), float("-inf")):
        return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"
    if number == 0 or 1e-3 <= abs(number) < 1e7:
        return repr(number)  # in this range repr is plain too, and always has a point
    sign, digits, exponent = _decimal(number)
    return f"{sign}{digits[0]}.{digits[1:] or '0'}E{exponent}"


def _decimal(number: float) -> tuple[str, str, int]:
    """Sign, significant digits without trailing zeros, and the power of ten of the first digit."""
    mantissa, _, exponent = f"{abs(number)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    leading_zeros = len(whole + fraction) - len(digits)
    power = len(whole) - 1 - leading_zeros + int(exponent or 0)
    return "-" if number < 0 else "", digits.rstrip("0"), power


_BLANKS = "".join(map(chr, range(0x21)))  # what Java's String.trim drops
_DOUBLE = re.compile(r"[+-]?(NaN|Infinity|(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?[fFdD]?)")
_COMMA = re.compile(r"\s*,\s*", re.ASCII)
_BITS = {Type.INT: 32, Type.SHORT: 16, Type.LONG: 64}
