"""What is wrong with a configuration, in one line."""

from __future__ import annotations

from collections.abc import Iterable


class ConfigError(Exception):
    """A configuration that a node cannot start with. The text is one line, meant for whoever wrote the setting.

    `kafka` is what Kafka answers a client with who asks for such a setting of a running broker.
    """

    def __init__(self, text: str, *, kafka: str | None = None) -> None:
        super().__init__(text)
        self.kafka = text if kafka is None else kafka


def unknown(name: str, known: Iterable[str]) -> str:
    """One line saying that there is no such setting, with the nearest name there is."""
    import difflib  # only for an error: every start would pay for it

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)
    return f"there is no setting {name}" + (f"; did you mean {near[0]}?" if near else "")
