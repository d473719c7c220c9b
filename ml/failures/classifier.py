"""Says why a payment failed, by the first evidence that knows: code table, scheme's advice, words, else "unknown"."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal

import msgspec
import numpy as np

from ml.failures.advice import advice_of, retry_within
from ml.failures.codes import KnownCode, code_key, load_codes, load_phrases
from ml.failures.taxonomy import (
    NEVER_AGAIN,
    RETRIES_BLINDLY,
    UNKNOWN,
    Category,
    Fault,
    Hardness,
    RetryPolicy,
    category_of,
)
from ml.failures.text_model import TextModel
from ml.failures.wording import message_wording

Evidence = Literal["code_table", "advice_code", "text_model", "none"]
"""What decided, in the order in which it is asked. ``none``: nothing was sure enough."""

CONFIDENCE_MIN: Final = 0.35
"""Below this confidence a guess from words is no answer: among such guesses about half were right."""

VERDICTS_KEPT_MAX: Final = 10_000
"""Verdicts remembered, least recently used go first. Gateways repeat few codes, so nearly all failures are found here.

A code and a message have at most 580 characters on the wire, so this is a few megabytes.
"""

NO_ROWS: Final[Mapping[str, str]] = {}
"""No operator has entered anything."""

RISK_FORBIDDEN_MAX: Final = 0.2
"""A guess from words allows no automatic retry from this chance on that a retry is forbidden.

On the development half of `make bench-failures` this prevents a sixth of the unsafe retries and makes 1 retry advice in
100 more cautious than it had to be. A model that learned from less (no phrases) avoids a third of them that way.
"""


class FailureText(msgspec.Struct, frozen=True):
    """What a gateway said about one failure. ``system`` names the gateway; empty or None is "nothing was said".

    ``advice_code`` is what the card scheme ``network`` advised, where the gateway passes it on.
    """

    system: str
    code: str | None = None
    message: str | None = None
    network: str | None = None
    advice_code: str | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Why a payment failed, and what decided it.

    ``confidence`` is the estimated probability that ``category`` is right, 0 to 1; 0 where the category is ``unknown``.
    ``retry`` is the policy of the category, within what the scheme advised, or ``ask_customer`` where words leave too
    great a risk that a retry is forbidden. ``delay_s`` is how long a retry should wait at least; None: no automatic
    one. ``advice`` says what the scheme advised; empty: nothing. ``guesses`` are the text model's best two categories,
    likeliest first; empty where it was not asked or knows nothing.
    """

    category: str
    hardness: Hardness
    fault: Fault
    retry: RetryPolicy
    confidence: float
    evidence: Evidence
    shopper_message: str
    guesses: tuple[str, ...] = ()
    delay_s: int | None = None
    advice: str = ""


class FailureModel:
    """Classifies failures; the same failures always get the same verdicts.

    Args:
        codes: the code tables of the gateways, which win over any words.
        text_model: what to ask where no table knows the code.
        confidence_min: below this the words' answer is ``unknown``, 0 to 1.
    Raises: ValueError: confidence_min is outside 0 to 1.
    """

    def __init__(
        self, codes: Iterable[KnownCode], text_model: TextModel, *, confidence_min: float = CONFIDENCE_MIN
    ) -> None:
        if not 0.0 <= confidence_min <= 1.0:
            raise ValueError(f"confidence_min is {confidence_min}, must be from 0 to 1")
        self._text_model = text_model
        self._confidence_min = confidence_min
        self._by_code: dict[tuple[str, str], str] = {}
        self._by_message: dict[tuple[str, str], str] = {}
        for known in codes:
            self._by_code[known.system, _same_case(known.code)] = known.category
            if wording := message_wording(known.message):
                self._by_message.setdefault((known.system, wording), known.category)
        self._forbidden = np.array([category_of(name).retry in NEVER_AGAIN for name in text_model.categories])
        self._kept: OrderedDict[FailureText, Verdict] = OrderedDict()

    @classmethod
    def shipped(cls, confidence_min: float = CONFIDENCE_MIN, *, text_model: TextModel | None = None) -> FailureModel:
        """Build the model that comes with the package; its words are learned from phrases within some seconds.

        Args:
            confidence_min: below this the words' answer is ``unknown``, 0 to 1.
            text_model: one that was trained on more, in place of the shipped one.
        """
        return cls(load_codes(), text_model or shipped_text_model(), confidence_min=confidence_min)

    @classmethod
    def trained_on(
        cls,
        rows: Iterable[KnownCode | Mapping[str, str | None]],
        *,
        with_phrases: bool = True,
        codes: Iterable[KnownCode] = (),
        confidence_min: float = CONFIDENCE_MIN,
    ) -> FailureModel:
        """Build a model that learns its words from rows given, such as the codes an operator has confirmed.

        Args:
            rows: codes, messages and the categories they mean; a mapping has the keys of KnownCode.
            with_phrases: learn from the shipped phrases and messages as well.
            codes: the code tables to use; none by default, so that words alone decide.
            confidence_min: below this the answer is ``unknown``, 0 to 1.
        Raises: ValueError: a row names no category, or fewer than two categories are left to learn from.
        """
        known = [row if isinstance(row, KnownCode) else _row_of(row) for row in rows]
        for row in known:
            category_of(row.category)
        return cls(
            codes,
            TextModel.learned([*(shipped_rows() if with_phrases else ()), *known]),
            confidence_min=confidence_min,
        )

    def classify_many(
        self, failures: Sequence[FailureText | Mapping[str, str | None]], rows: Mapping[str, str] = NO_ROWS
    ) -> list[Verdict]:
        """Give the verdict on each failure, in their order.

        Args:
            failures: what the gateways said; a mapping has the keys of FailureText.
            rows: what operators entered, category by ``code_key``: it wins over everything else.
        """
        texts = [
            failure if isinstance(failure, FailureText) else msgspec.convert(failure, FailureText)
            for failure in failures
        ]
        fresh = list(dict.fromkeys(text for text in texts if text not in self._kept))
        judged = dict(zip(fresh, self._judge(fresh), strict=True))
        verdicts = [judged.get(text) or self._kept[text] for text in texts]
        for text, verdict in zip(texts, verdicts, strict=True):
            self._kept[text] = verdict
            self._kept.move_to_end(text)
        while len(self._kept) > VERDICTS_KEPT_MAX:
            self._kept.popitem(last=False)
        if rows:
            for place, text in enumerate(texts):
                if entered := rows.get(code_key(text.system, text.code, text.message)):
                    verdicts[place] = _advised(_verdict(category_of(entered), 1.0, "code_table"), text)
        return verdicts

    def classify(self, failure: FailureText) -> Verdict:
        """Give the verdict on one failure.

        >>> FailureModel.shipped().classify(FailureText("alpha", "51")).category
        'insufficient_funds'
        """
        return self.classify_many([failure])[0]

    def reason_of(self, failure: FailureText) -> str:
        """Explain a verdict in one sentence: the table row or the words that decided it."""
        verdict = self.classify(failure)
        if verdict.evidence == "advice_code":
            return verdict.advice
        if verdict.evidence == "code_table":
            return f"{failure.system} uses {failure.code or failure.message!r} for {verdict.category}"
        if verdict.evidence == "none":
            guesses = " or ".join(verdict.guesses)
            return f"not sure enough to say; perhaps {guesses}" if guesses else "nothing was said that we know"
        words = self._text_model.words_for(failure.code or "", failure.message or "", verdict.category)
        spoke = ", ".join(repr(word) for word in words) or "the spelling"
        return f"{spoke} spoke for {verdict.category} ({verdict.confidence:.0%} sure)"

    def _judge(self, failures: list[FailureText]) -> list[Verdict]:
        """Go through the evidence in its order: the table, the scheme's advice, the words, nothing."""
        known = [self._known(failure) for failure in failures]
        spoken = [failure for failure, verdict in zip(failures, known, strict=True) if verdict is None]
        guessed = self._guesses([(text.code or "", text.message or "") for text in spoken])
        verdicts = [next(guessed) if verdict is None else verdict for verdict in known]
        return [_advised(verdict, failure) for verdict, failure in zip(verdicts, failures, strict=True)]

    def _known(self, failure: FailureText) -> Verdict | None:
        """What is known without having to guess from words."""
        if listed := self._listed(failure):
            return _verdict(category_of(listed), 1.0, "code_table")
        advice = advice_of(failure.network, failure.advice_code)
        if advice is not None and advice.category is not None:
            return _verdict(category_of(advice.category), 1.0, "advice_code")
        return None

    def _listed(self, failure: FailureText) -> str | None:
        """Look a failure up in its gateway's table; the message decides only where there is no code."""
        code = _same_case(failure.code or "")
        if code:
            return self._by_code.get((failure.system, code))
        return self._by_message.get((failure.system, message_wording(failure.message or "")))

    def _guesses(self, said: Sequence[tuple[str, str]]) -> Iterator[Verdict]:
        """Let words decide, for codes and messages that stand in no table."""
        probabilities = self._text_model.probabilities(said)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
        confidences = np.minimum(np.take_along_axis(probabilities, best[:, :1], axis=1)[:, 0], 1.0)
        risks = probabilities[:, self._forbidden].sum(axis=1)
        names = self._text_model.categories
        for (first, second), confidence, risk in zip(best.tolist(), confidences.tolist(), risks.tolist(), strict=True):
            if confidence == 0.0:
                yield _verdict(category_of(UNKNOWN), 0.0, "none")
            elif confidence < self._confidence_min:
                yield _verdict(category_of(UNKNOWN), 0.0, "none", (names[first], names[second]))
            else:
                verdict = _verdict(category_of(names[first]), confidence, "text_model", (names[first], names[second]))
                if verdict.retry in RETRIES_BLINDLY and risk >= RISK_FORBIDDEN_MAX:
                    verdict = msgspec.structs.replace(verdict, retry="ask_customer", delay_s=None)
                yield verdict


def _verdict(category: Category, confidence: float, evidence: Evidence, guesses: tuple[str, ...] = ()) -> Verdict:
    """Say what a category means."""
    return Verdict(
        category=category.name,
        hardness=category.hardness,
        fault=category.fault,
        retry=category.retry,
        confidence=confidence,
        evidence=evidence,
        shopper_message=category.shopper_message,
        guesses=guesses,
        delay_s=category.delay_s_min,
    )


def _advised(verdict: Verdict, failure: FailureText) -> Verdict:
    """Narrow a verdict to what the card scheme allows."""
    advice = advice_of(failure.network, failure.advice_code)
    if advice is None:
        return verdict
    retry = retry_within(advice, verdict.retry)
    delay_s = max(advice.delay_s or 0, verdict.delay_s or 0) if retry in RETRIES_BLINDLY else None
    said = f"{advice.network} advice {advice.code}: {advice.meaning}"
    return msgspec.structs.replace(verdict, retry=retry, delay_s=delay_s, advice=said)


def _row_of(row: Mapping[str, str | None]) -> KnownCode:
    """Read a row that was given as a mapping; what is empty or left out was not said."""
    said = {name: row.get(name) or "" for name in KnownCode.__struct_fields__}
    return KnownCode(**said)


def _same_case(code: str) -> str:
    """Write a code as the tables do: gateways are not strict about case and blanks."""
    return code.strip().casefold()


def shipped_rows() -> list[KnownCode]:
    """Collect what the shipped text model learns from: phrases, and the messages of known codes.

    The codes themselves stay out: what a number means at one gateway says nothing about another.
    """
    return [*load_phrases(), *(msgspec.structs.replace(known, code="") for known in load_codes())]


@lru_cache(maxsize=1)
def shipped_text_model() -> TextModel:
    """Learn the shipped text model once per process; it never changes."""
    return TextModel.learned(shipped_rows())
