"""Log lines that a flood cannot multiply: one for each reason in an interval, and how many were left out.

A reason is told when it comes up, and not again for INTERVAL_S; the next line then says how many there were between.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from kpybroker.clock import Clock

INTERVAL_S = 30.0
REASONS_MAX = 1000
"""Reasons that are remembered; beyond, the one that was last told longest ago is forgotten."""


class SeldomLog:
    """A logger that says the same no more than once in INTERVAL_S."""

    def __init__(self, log: logging.Logger, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._told: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def __call__(self, level: int, reason: Hashable, text: str, *arguments: object, traceback: bool = False) -> None:
        """Log `text % arguments`, unless the same `reason` was told a short while ago."""
        now_s = self._clock.monotonic_s()
        told_s, left_out = self._told.get(reason, (now_s - INTERVAL_S, 0))
        if now_s - told_s < INTERVAL_S:
            self._told[reason] = told_s, left_out + 1
            return
        self._told[reason] = now_s, 0
        self._told.move_to_end(reason)
        if len(self._told) > REASONS_MAX:
            self._told.popitem(last=False)
        if left_out:
            text, arguments = text + " (and %d more like it since the last such line)", (*arguments, left_out)
        self._log.log(level, text, *arguments, exc_info=traceback)
