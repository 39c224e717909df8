"""Messages by their names in Kafka's specs, for tools and tests. Nodes import the modules that they need."""

import re
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from kpybroker.wire.schema import Message


def message_class(name: str) -> type[Message]:
    """The class that declares a message of that name. Raises: LookupError."""
    if api := re.fullmatch(r"([A-Za-z0-9]+)(Request|Response)", name):
        modules = [f"messages.{snake_case(api[1])}"]
    else:
        modules = ["headers", *_internal_modules()]
    for module in modules:
        try:
            found = getattr(import_module(f"kpybroker.wire.{module}"), name, None)
        except ModuleNotFoundError:
            continue
        if isinstance(found, type) and issubclass(found, Message) and hasattr(found, "VERSIONS"):
            return found
    raise LookupError(f"no message named {name!r}")


def all_messages() -> Iterator[type[Message]]:
    """Every message that is declared."""
    from kpybroker.wire import messages

    names = [f"messages.{module.name}" for module in iter_modules(messages.__path__)]
    for name in [*names, "headers", *_internal_modules()]:
        module = import_module(f"kpybroker.wire.{name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Message) and value.__module__ == module.__name__:
                yield value


def _internal_modules() -> list[str]:
    from kpybroker.wire import internal

    return [f"internal.{module.name}" for module in iter_modules(internal.__path__)]


def snake_case(name: str) -> str:
    """The module of an API: "OffsetForLeaderEpoch" is offset_for_leader_epoch."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
