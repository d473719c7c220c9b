"""Many questions at once: Holm for the goals and arms of an experiment, Benjamini-Hochberg for scans over segments."""

from __future__ import annotations

from collections.abc import Sequence

from statsmodels.stats.multitest import multipletests


def holm(p_values: Sequence[float], *, alpha: float) -> list[bool]:
    """Which of several questions may be answered, so that one false answer among all has probability alpha at most.

    With p-values that hold at any time this holds at any number of looks too, as long as what was answered once stays
    answered: the first false answer needs a p-value below alpha over the number of true hypotheses.

    >>> holm([0.01, 0.04, 0.03], alpha=0.05)
    [True, False, False]
    """
    return [bool(each) for each in multipletests(list(p_values), alpha=alpha, method="holm")[0]] if p_values else []


def holm_levels(p_values: Sequence[float], *, alpha: float) -> list[float]:
    """The alpha at which Holm puts each question to the test; an interval of that alpha agrees with the answer.

    >>> holm_levels([0.01, 0.04, 0.03], alpha=0.06)
    [0.02, 0.06, 0.03]
    """
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    levels = [0.0] * len(p_values)
    stopped: float | None = None
    for place, at in enumerate(order):
        level = alpha / (len(p_values) - place) if stopped is None else stopped
        levels[at] = level
        if stopped is None and p_values[at] > level:
            stopped = level
    return levels


def false_discoveries_kept(p_values: Sequence[float], *, share: float) -> list[bool]:
    """Which findings of a scan to keep, so that at most this share of the kept ones is false on average.

    Source: Benjamini and Hochberg (1995), through statsmodels.
    """
    return [bool(each) for each in multipletests(list(p_values), alpha=share, method="fdr_bh")[0]] if p_values else []
