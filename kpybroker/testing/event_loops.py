"""What blocks, called from plain code and from any event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import sniffio
import trio

T = TypeVar("T")


def event_loop() -> str | None:
    """The event loop that this runs in; None: none."""
    try:
        return sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return None


def refuse_in_event_loop(name: str) -> None:
    """Raises: RuntimeError where `name` would block an event loop."""
    library = event_loop()
    if library is not None:
        raise RuntimeError(f"{name} would block the {library} event loop: use `async with` or the async form")


async def in_thread(work: Callable[[], T]) -> T:
    """`work()` in a worker thread, awaited in whatever event loop this is."""
    if event_loop() == "trio":
        return await trio.to_thread.run_sync(work)
    import asyncio

    return await asyncio.to_thread(work)
