"""Topic names: which are allowed, and which are Kafka's own."""

import re

from kpybroker.wire.codes import Code, Refused

CONSUMER_OFFSETS = "__consumer_offsets"
TRANSACTION_STATE = "__transaction_state"
SHARE_GROUP_STATE = "__share_group_state"
METADATA_TOPIC = "__cluster_metadata"
"""The metadata log's own topic, which nobody creates."""

INTERNAL_TOPICS = frozenset({CONSUMER_OFFSETS, TRANSACTION_STATE, SHARE_GROUP_STATE})
"""Topics that coordinators keep their state in; no client writes to them."""

TOPIC_NAME_MAX = 249
"""Longest topic name: with "-", the partition and a suffix it still fits a file name."""

_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def is_valid_topic_name(name: str) -> bool:
    """Whether a topic may have this name."""
    return _TOPIC_NAME.fullmatch(name) is not None and name not in (".", "..")


def check_topic_name(name: str) -> None:
    """Raises: Refused(INVALID_TOPIC_EXCEPTION) with Kafka's sentence if no topic may be called so."""
    if is_valid_topic_name(name):
        return
    if not name:
        why = "the empty string is not allowed"
    elif name in (".", ".."):
        why = f"'{name}' is not allowed"
    elif len(name) > TOPIC_NAME_MAX:
        why = f"the length of '{name}' is longer than the max allowed length {TOPIC_NAME_MAX}"
    else:
        why = f"'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    raise Refused(Code.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {why}")


def node_id_of(name: str) -> int | None:
    """The node that the name of a resource means, read as Java reads a number; None: no number, or too large a one."""
    digits = name[1:] if name[:1] in ("+", "-") else name
    if not (digits.isascii() and digits.isdigit()):
        return None
    return int(name) if -(2**31) <= int(name) < 2**31 else None
