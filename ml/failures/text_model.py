"""Guesses the category of a failure from its words: two linear models over words, pieces, concepts and code shapes.

A logistic regression and a support vector machine make different mistakes; both are linear, so their blend is one table
of weights and costs no more than one of them. Measured on systems never seen in training (`make bench-failures`).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from ml.failures.codes import KnownCode
from ml.failures.features import BLOCKS, Vocabulary

# Penalties and shares were chosen on one half of the systems that `make bench-failures` knows. With these shares the
# stated confidence of an unseen system lies within 0.04 of its accuracy; larger ones guess as well but boast.
_REGRESSION_PENALTY_INVERSE: Final = 10.0
_MARGIN_PENALTY_INVERSE: Final = 1.0
_REGRESSION_SHARE: Final = 0.5
_MARGIN_SHARE: Final = 1.5
# Rows turned into features at once; bounds the memory of a batch to some tens of megabytes.
_CHUNK: Final = 4096
_STORED_AS: Final = 1
"""Version of the stored form; another one is refused."""


class TextModel:
    """A table of weights over what a failure's code and message say; knows nothing of gateways.

    Args:
        vocabulary: the parts of a text that count.
        weights: shape (parts, categories), in the order of the vocabulary's columns.
        offsets: shape (categories,).
        categories: names, in the order of the columns of ``weights``.
    Raises: ValueError: the shapes do not fit.
    """

    def __init__(
        self, vocabulary: Vocabulary, weights: np.ndarray, offsets: np.ndarray, categories: Sequence[str]
    ) -> None:
        shape = vocabulary.width, len(categories)
        if weights.shape != shape or offsets.shape != shape[1:]:
            raise ValueError(
                f"weights are {weights.shape} and offsets {offsets.shape}; must be {shape} and {shape[1:]}"
            )
        self._vocabulary = vocabulary
        self._weights = weights
        self._offsets = offsets
        self.categories: tuple[str, ...] = tuple(categories)

    @classmethod
    def learned(cls, rows: Iterable[KnownCode]) -> TextModel:
        """Learn from what was said and what it meant; the same rows always give the same model.

        Raises: ValueError: fewer than two categories occur.
        """
        known = list(rows)
        truth = [row.category for row in known]
        if len(set(truth)) < 2:
            raise ValueError("a text model needs phrases of at least two categories to learn from")
        said = [(row.code, row.message) for row in known]
        vocabulary = Vocabulary.learned(said)
        features = vocabulary.features(said)
        regression = LogisticRegression(C=_REGRESSION_PENALTY_INVERSE, tol=1e-3, max_iter=500).fit(features, truth)
        margins = LinearSVC(C=_MARGIN_PENALTY_INVERSE, random_state=0).fit(features, truth)
        weights = _REGRESSION_SHARE * _both_sides(regression.coef_) + _MARGIN_SHARE * _both_sides(margins.coef_)
        offsets = _REGRESSION_SHARE * _both_sides(regression.intercept_) + _MARGIN_SHARE * _both_sides(
            margins.intercept_
        )
        return cls(vocabulary, weights.T.astype(np.float32), offsets.astype(np.float32), [*map(str, margins.classes_)])

    def probabilities(self, failures: Sequence[tuple[str, str]]) -> np.ndarray:
        """Say how likely each category is for each failure.

        Args:
            failures: code and message of each, either may be empty.
        Returns: shape (failures, categories), float, in the order of ``categories``; each row adds up to 1, or is all
            zero where the model has never met any part of the text.
        """
        result = np.zeros((len(failures), len(self.categories)))
        for start in range(0, len(failures), _CHUNK):
            blocks = self._vocabulary.blocks(failures[start : start + _CHUNK])
            scores = self._offsets.astype(float)
            parts = 0
            for block, features in blocks.items():
                scores = scores + features @ self._weights[self._vocabulary.columns[block]]
                parts = parts + np.diff(features.indptr)
            likely = softmax(scores, axis=1)
            likely[parts == 0] = 0.0
            result[start : start + _CHUNK] = likely
        return result

    def words_for(self, code: str, message: str, category: str, *, count_max: int = 3) -> list[str]:
        """Name the words and word pairs that spoke most for a category, strongest first; it may be none.

        Raises: ValueError: the model does not know the category.
        """
        weights = self._weights[:, self.categories.index(category)]
        names = self._vocabulary.names["words"]
        found = self._vocabulary.features([(code, message)])
        spoke = sorted(
            (float(weights[at] * value), names[at])
            for at, value in zip(found.indices, found.data, strict=True)
            if at < len(names)
        )
        return [name for strength, name in reversed(spoke) if strength > 0][:count_max]

    def stored(self) -> bytes:
        """Write the model as arrays (NumPy's npz), without any code in it."""
        arrays: dict[str, Any] = {
            "stored_as": np.array(_STORED_AS),
            "weights": self._weights,
            "offsets": self._offsets,
            "categories": _as_bytes(self.categories),
        }
        for block in BLOCKS:
            arrays[f"names_{block}"] = _as_bytes(self._vocabulary.names[block])
            arrays[f"rarity_{block}"] = self._vocabulary.rarity[block].astype(np.float32)
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        return file.getvalue()

    @classmethod
    def loaded(cls, body: bytes) -> TextModel:
        """Read what ``stored`` wrote.

        Raises: ValueError: it is something else, or from another version of this module.
        """
        try:
            with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
                if int(arrays["stored_as"]) != _STORED_AS:
                    raise ValueError(
                        f"it is stored in form {int(arrays['stored_as'])}, this version reads {_STORED_AS}"
                    )
                vocabulary = Vocabulary(
                    {block: _as_names(arrays[f"names_{block}"]) for block in BLOCKS},
                    {block: arrays[f"rarity_{block}"].astype(float) for block in BLOCKS},
                )
                return cls(vocabulary, arrays["weights"], arrays["offsets"], _as_names(arrays["categories"]))
        except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
            raise ValueError(f"this is no stored text model: {error}; train it again") from None


def _both_sides(values: np.ndarray) -> np.ndarray:
    """With two categories scikit-learn keeps the weights of the second only."""
    return values if len(values) > 1 else np.concatenate([-values, values])


def _as_bytes(names: Sequence[str]) -> np.ndarray:
    return np.frombuffer("\n".join(names).encode(), dtype=np.uint8)


def _as_names(array: np.ndarray) -> list[str]:
    return array.tobytes().decode().split("\n") if array.size else []
