"""The live figures of what a viewer chose: its traffic, and everything else as for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from storage.errors import TooManyAttempts
from storage.read_models.chosen import Chosen
from storage.read_models.chosen_decisions import FIELDS
from storage.read_models.live_facts import AdviceCount
from storage.read_models.live_series import WINDOW_MINUTES, MinuteCounts
from storage.read_models.live_traffic import LiveTraffic
from storage.read_models.single_attempts import readable_max

if TYPE_CHECKING:
    from storage.read_models.live import LiveFigures

NARROW_EVERY_S: Final = 5.0
"""Between two readings of single attempts; sums are read every second or so."""

STALE_AFTER_S: Final = 5.0
"""Figures older than this are called stale; also never before three polls were missed."""

MINUTES_MIN: Final = 2
"""The running minute, and a whole one to draw."""


class ChosenFigures:
    """The figures of a choice: traffic and advice of its own, everything else as for all.

    Args:
        live: polls, and knows the rest.
        make: makes the traffic of what is chosen, empty.
        chosen: what is.
    """

    is_narrow = False
    reach = WINDOW_MINUTES

    def __init__(self, live: LiveFigures, make: Callable[[], LiveTraffic], chosen: Chosen) -> None:
        self._live, self._make, self._chosen = live, make, chosen
        self._traffic = make()
        self._advice: tuple[tuple[AdviceCount, ...], tuple[AdviceCount, ...]] = (), ()
        self._show()

    def stale_since(self, now: float) -> float | None:
        """Since when the store did not answer, as for all."""
        return self._live.stale_since(now)

    async def poll(self, now: float) -> None:
        """Read what changed, once.

        Args:
            now: seconds since epoch.
        Raises: StoreError: MongoDB did not answer or refused; the snapshot stays as it was.
        """
        await self._traffic.poll(now, self.reach)
        self._show()

    def _show(self) -> None:
        whole, known = self._live.snapshot, msgspec.structs.asdict(self._traffic.known)
        if self._advice[0] is not whole.advice:
            self._advice = whole.advice, chosen_advice(whole.advice, self._chosen)
        self.snapshot = msgspec.structs.replace(whole, **known, advice=self._advice[1])


class NarrowFigures(ChosenFigures):
    """The figures of a choice that only single attempts tell: as many of the newest minutes as can be looked up.

    ``reach``: how many that are; 0: not even one, and nothing is shown.
    """

    is_narrow = True

    def __init__(self, live: LiveFigures, make: Callable[[], LiveTraffic], chosen: Chosen) -> None:
        super().__init__(live, make, chosen)
        self._attempts_max = readable_max(chosen)
        self._tried_at = float("-inf")

    def is_due(self, now: float) -> bool:
        """Tell whether it is time to read again; there must be figures of all, to know how far back that can be."""
        return self._live.snapshot.polled_at is not None and now - self._tried_at >= NARROW_EVERY_S

    def stale_since(self, now: float) -> float | None:
        """Since when there was nothing new; None: the figures are fresh, or there were never any."""
        return stale_since(self.snapshot.polled_at, now, NARROW_EVERY_S)

    async def poll(self, now: float) -> None:
        """Read what changed, once.

        Args:
            now: seconds since epoch.
        Raises: StoreError: MongoDB did not answer or refused; the snapshot stays as it was.
        """
        self._tried_at = now
        self.reach = minutes_within(self._live.snapshot.attempts, self._attempts_max)
        if self.reach:
            try:
                await super().poll(now)
                return
            except TooManyAttempts:  # more came in than was known a moment ago
                self.reach = 0
        self._traffic = self._make()
        self._show()


def chosen_advice(advice: Sequence[AdviceCount], chosen: Chosen) -> tuple[AdviceCount, ...]:
    """The counts of what was chosen, by what a decision tells of its payment and the gateway that it put first."""
    wanted = {name: getattr(chosen, name) for name in FIELDS}
    return tuple(
        count for count in advice if all(not names or getattr(count, name) in names for name, names in wanted.items())
    )


def minutes_within(attempts: MinuteCounts, attempts_max: int) -> int:
    """How many of the newest minutes hold no more attempts than that.

    The running minute counts for at least what the one before it held, so that the answer does not swing every minute.

    Returns: with the running minute; 0: not even that and a whole one.
    """
    per_minute = attempts.values[..., 0].sum(axis=(1, 2))[::-1].copy()
    per_minute[0] = per_minute[:2].max()
    minutes = int(np.searchsorted(np.cumsum(per_minute), attempts_max, side="right"))
    return minutes if minutes >= MINUTES_MIN else 0


def stale_since(polled_at: float | None, now: float, every_s: float) -> float | None:
    """Since when figures are too old; None: they are not, or there were never any.

    Args:
        polled_at: when they were read, seconds since epoch.
        now: seconds since epoch.
        every_s: how often they should be.
    """
    return None if polled_at is None or now - polled_at <= max(STALE_AFTER_S, 3 * every_s) else polled_at
