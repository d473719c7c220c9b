"""The text model of failures: learned anew from what operators corrected."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np

from actors.serving import FAILURE_TEXT
from config.settings import Settings
from ml.failures.classifier import shipped_rows
from ml.failures.codes import KnownCode, load_codes, load_phrases
from ml.failures.text_model import TextModel
from ml.lack import TooFewData
from storage.database import Database
from storage.failure_codes import list_code_rows, rows_to_learn_from
from storage.models import StoredModel, TrainedModel

ROWS_MIN: Final = 5
"""Corrections that a training needs at least: below, held-back ones are too few to tell better from worse."""

FOLDS: Final = 4
OWN_WEIGHT: Final = 3
"""A correction counts as so many phrases: it is about the gateways that are really used."""


async def train_failure_text(
    database: Database, settings: Settings, in_force: StoredModel | None, now: datetime
) -> TrainedModel | TooFewData:
    """Learn from the shipped phrases and every correction; better is what knows held-back corrections better.

    Held back are gateways as a whole where corrections come from several, since rows of one gateway are kin. On the
    shipped tables of the demo gateways, which this comparison learns nothing from, it must not do worse.
    """
    rows = await list_code_rows(database)
    learnt = rows_to_learn_from(rows)
    if len(learnt) < ROWS_MIN:
        return TooFewData(seen=len(learnt), needed=ROWS_MIN)
    window = min(row.changed_at for row in rows), max(row.changed_at for row in rows)
    if in_force is not None and in_force.about.window_to >= window[1] and in_force.about.metrics["rows"] == len(learnt):
        body, metrics = in_force.body, in_force.about.metrics
        better, note = False, "no correction since the version in force"
    else:
        body, metrics = await asyncio.to_thread(_fit, learnt)
        better = (
            metrics["accuracy_corrections"] >= metrics["accuracy_corrections_without"]
            and metrics["accuracy_tables"] >= metrics["accuracy_tables_without"]
        )
        note = (
            f"{len(learnt)} corrections; held back: {metrics['accuracy_corrections']:.3f} of them right, "
            f"{metrics['accuracy_corrections_without']:.3f} without learning from any"
        )
    return TrainedModel(
        kind=FAILURE_TEXT,
        body=body,
        format="npz",
        window_from=window[0],
        window_to=window[1],
        metrics=metrics,
        better=better,
        note=note,
    )


def _fit(learnt: Sequence[KnownCode]) -> tuple[bytes, dict[str, float]]:
    """Compare with and without corrections on what is held back, then learn from everything."""
    phrases, tables = list(load_phrases()), list(load_codes())
    without = TextModel.learned(phrases)
    right: list[bool] = []
    right_without: list[bool] = []
    for held in _folds(learnt):
        rest = [row for row in learnt if row not in held]
        right += _right(TextModel.learned([*phrases, *rest * OWN_WEIGHT]), held)
        right_without += _right(without, held)
    metrics = {
        "rows": float(len(learnt)),
        "accuracy_corrections": float(np.mean(right)),
        "accuracy_corrections_without": float(np.mean(right_without)),
        "accuracy_tables": float(np.mean(_right(TextModel.learned([*phrases, *learnt, *learnt]), tables))),
        "accuracy_tables_without": float(np.mean(_right(without, tables))),
    }
    return TextModel.learned([*shipped_rows(), *list(learnt) * OWN_WEIGHT]).stored(), metrics


def _folds(learnt: Sequence[KnownCode]) -> list[list[KnownCode]]:
    """Split into parts to hold back: by gateway where there are several, else row by row in turn."""
    systems = sorted({row.system for row in learnt})
    if len(systems) < 2:
        return [list(learnt[start::FOLDS]) for start in range(min(FOLDS, len(learnt)))]
    parts = [set(systems[start::FOLDS]) for start in range(min(FOLDS, len(systems)))]
    return [[row for row in learnt if row.system in part] for part in parts]


def _right(model: TextModel, rows: Sequence[KnownCode]) -> list[bool]:
    best = model.probabilities([(row.code, row.message) for row in rows]).argmax(axis=1)
    return [model.categories[place] == row.category for place, row in zip(best, rows, strict=True)]
