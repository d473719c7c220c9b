from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.failures import classifier
from ml.failures.classifier import FailureModel, FailureText, Verdict
from ml.failures.codes import KnownCode, load_codes, load_phrases
from ml.failures.taxonomy import CATEGORIES, NEVER_AGAIN, RETRIES_BLINDLY, category_of
from ml.failures.text_model import TextModel

NAMES = {category.name for category in CATEGORIES}
MODEL = FailureModel.shipped()


def said(message: str, code: str = "") -> Verdict:
    """The verdict on words of a gateway that nobody knows."""
    return MODEL.classify(FailureText("zulu", code, message))


@pytest.mark.parametrize(
    ("message", "category"),
    [
        ("The account has not enough money for this", "insufficient_funds"),
        ("Daily spending limit exceeded on this card", "limit_exceeded"),
        ("This card expired last month", "expired_card"),
        ("Card number invalid, no such card", "invalid_account_number"),
        ("CVC is wrong", "cvv_avs_mismatch"),
        ("The bank account was closed", "account_closed_or_blocked"),
        ("Stolen card, pick up", "lost_or_stolen_card"),
        ("Rejected, fraud is suspected", "suspected_fraud"),
        ("Issuer declined: do not honour", "do_not_honor"),
        ("Transaction type not permitted for this card", "transaction_not_permitted"),
        ("Strong customer authentication is required", "authentication_required"),
        ("Wrong OTP was entered", "authentication_failed"),
        ("The customer revoked the mandate", "authorization_revoked"),
        ("Shopper cancelled the payment", "customer_cancelled"),
        ("Field amount is missing from the request", "invalid_request"),
        ("Merchant ID is not configured", "merchant_configuration_error"),
        ("Duplicate order, transaction sent before", "duplicate_transaction"),
        ("Issuing bank is unavailable", "issuer_unavailable"),
        ("Internal error at the gateway", "processing_error"),
        ("No response in time, request timed out", "network_timeout"),
    ],
)
def test_typical_words_of_each_category_are_understood(message: str, category: str):
    """A gateway never met before is understood by what it says."""
    verdict = said(message)

    assert (verdict.category, verdict.evidence, verdict.guesses[0]) == (category, "text_model", category)
    assert verdict.hardness == category_of(category).hardness
    assert verdict.fault == category_of(category).fault
    assert verdict.retry == category_of(category).retry


@pytest.mark.parametrize("known", load_codes(), ids=lambda known: f"{known.system}-{known.code}")
def test_a_known_code_decides_whatever_the_message_says(known: KnownCode):
    """A gateway's own table wins over words that speak for something else."""
    contrary = "insufficient funds" if known.category != "insufficient_funds" else "stolen card"

    verdict = MODEL.classify(FailureText(known.system, f" {known.code.lower()} ", contrary))

    assert (verdict.category, verdict.evidence, verdict.confidence) == (known.category, "code_table", 1.0)


def test_a_code_is_only_known_at_its_own_gateway():
    """The code of one gateway means nothing at another: there the words decide."""
    verdict = MODEL.classify(FailureText("bravo", "51", "The card was reported stolen"))

    assert (verdict.category, verdict.evidence) == ("lost_or_stolen_card", "text_model")


def test_without_a_code_the_gateway_s_own_message_decides():
    """A gateway that leaves its code out is still recognised by the message of its table."""
    verdict = MODEL.classify(FailureText("bravo", None, "the one-time password was WRONG"))

    assert (verdict.category, verdict.evidence) == ("authentication_failed", "code_table")


@pytest.mark.parametrize("nothing", [FailureText("alpha"), FailureText("", "", ""), FailureText("zulu", "??", " - ")])
def test_nothing_said_is_unknown(nothing: FailureText):
    """Where nothing was said there is no category, no confidence and no guess."""
    verdict = MODEL.classify(nothing)

    assert (verdict.category, verdict.evidence, verdict.confidence, verdict.guesses) == ("unknown", "none", 0.0, ())
    assert verdict.retry == "ask_customer"


def test_a_weak_guess_is_unknown_with_the_best_two():
    """Below the least confidence the answer is "unknown", and the two likeliest categories are named."""
    strict = FailureModel.shipped(confidence_min=1.0)
    sure = said("card expired at the bank")

    verdict = strict.classify(FailureText("zulu", "", "card expired at the bank"))

    assert (verdict.category, verdict.evidence, verdict.confidence) == ("unknown", "none", 0.0)
    assert verdict.guesses == sure.guesses
    assert len(set(verdict.guesses)) == 2
    assert set(verdict.guesses) <= NAMES


@pytest.mark.parametrize(
    "message",
    [
        "Pick up card",
        "Card reported stolen by holder",
        "Blocked by fraud screening",
        "Sanctions list hit",
        "Customer revoked the recurring mandate",
        "Stop payment order received",
        "Duplicate transmission detected",
        "Order was already paid",
        "Mandatory field missing in request",
        "Gateway timeout, outcome not known",
        "Response received too late",
    ],
)
def test_what_must_not_be_retried_is_not_retried(message: str):
    """Theft, fraud, withdrawn consent, duplicates, wrong requests and timeouts never lead to a blind retry."""
    assert said(message).retry not in RETRIES_BLINDLY


def test_a_guess_with_a_risk_allows_no_automatic_retry():
    """If words speak for a technical error and nearly as much for a duplicate, a person is asked before a retry."""
    rows = [
        KnownCode(system="", code="", message=message, category=category)
        for message, category in [
            *[("system failure alpha", "processing_error")] * 3,
            *[("system failure alpha", "duplicate_transaction")] * 2,
        ]
    ]
    model = FailureModel.trained_on(rows, with_phrases=False)

    verdict = model.classify(FailureText("zulu", "", "system failure alpha"))

    assert verdict.category == "processing_error"
    assert category_of(verdict.category).retry in RETRIES_BLINDLY
    assert verdict.retry == "ask_customer"


def test_negation_in_the_customary_phrases_is_understood():
    """A "not" turns these phrases round, and they are understood as a whole."""
    assert said("card not expired yet but not enrolled in 3DS").category == "authentication_failed"
    assert said("issuer not available").category == "issuer_unavailable"
    assert said("not authorised").category == "do_not_honor"
    assert said("funds not sufficient").category == "insufficient_funds"


def test_every_shipped_phrase_that_is_sure_is_right():
    """What the model was taught it knows: among its own phrases, nine of ten come back as taught."""
    phrases = load_phrases()

    verdicts = MODEL.classify_many([FailureText("zulu", phrase.code, phrase.message) for phrase in phrases])

    right = sum(verdict.category == phrase.category for verdict, phrase in zip(verdicts, phrases, strict=True))
    assert right / len(phrases) > 0.9


def test_rows_of_an_operator_are_learned():
    """A phrase that the shipped model does not understand is understood once it was taught."""
    strange = FailureText("zulu", "", "grommet misaligned")
    rows = [
        KnownCode(system="yankee", code="", message=message, category="issuer_unavailable")
        for message in ("grommet misaligned", "the grommet is misaligned", "misaligned grommet at bank")
    ]

    assert MODEL.classify(strange).category == "unknown"
    assert FailureModel.trained_on(rows).classify(strange).category == "issuer_unavailable"


def test_training_refuses_an_unknown_category():
    """A row that names no category is refused before anything is learned."""
    with pytest.raises(ValueError, match="'bad_luck' is no failure category"):
        FailureModel.trained_on([KnownCode(system="a", code="1", message="x", category="bad_luck")])


def test_a_confidence_outside_0_to_1_is_refused():
    """A least confidence is a probability."""
    with pytest.raises(ValueError, match=r"confidence_min is 1.5, must be from 0 to 1"):
        FailureModel.shipped(confidence_min=1.5)


def test_a_mapping_is_read_like_a_text():
    """Plain mappings with the same keys get the same verdict."""
    assert MODEL.classify_many([{"system": "alpha", "code": "51"}]) == [MODEL.classify(FailureText("alpha", "51"))]


def test_verdicts_come_in_order_and_the_same_from_memory_as_fresh(monkeypatch: pytest.MonkeyPatch):
    """Remembered verdicts equal fresh ones, and memory stays within its bound with more texts than fit."""
    monkeypatch.setattr(classifier, "VERDICTS_KEPT_MAX", 3)
    text_model = TextModel.learned(load_phrases())
    forgetful = FailureModel(load_codes(), text_model)
    texts = [FailureText("zulu", "", f"{word} card") for word in ("expired", "stolen", "invalid", "blocked", "lost")]
    texts = [*texts, *reversed(texts), texts[0]]

    together = forgetful.classify_many(texts)

    assert together == [FailureModel(load_codes(), text_model).classify(text) for text in texts]
    assert forgetful.classify_many(texts) == together
    assert len(forgetful._kept) == 3


def test_reasons_name_what_decided():
    """The explanation names the table row, the words, or the doubt."""
    assert MODEL.reason_of(FailureText("alpha", "51")) == "alpha uses '51' for insufficient_funds"
    assert "expired" in MODEL.reason_of(FailureText("zulu", "", "expired card"))
    assert MODEL.reason_of(FailureText("zulu")) == "nothing was said that we know"


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=20), st.none() | st.text(max_size=80), st.none() | st.text(max_size=500))
def test_any_text_gets_a_sound_verdict(system: str, code: str | None, message: str | None):
    """Whatever a gateway says, the verdict is whole: confidence from 0 to 1, retry no laxer than its category."""
    verdict = MODEL.classify(FailureText(system, code, message))
    category = category_of(verdict.category)

    assert 0.0 <= verdict.confidence <= 1.0
    assert verdict.retry in {category.retry, "ask_customer"}
    assert (verdict.category == "unknown") == (verdict.evidence == "none") == (verdict.confidence == 0.0)
    assert (verdict.hardness, verdict.fault) == (category.hardness, category.fault)
    assert category.retry not in NEVER_AGAIN or verdict.retry == category.retry


def test_rows_to_train_on_may_be_plain_mappings():
    """Dictionaries with the same keys, also with more or with empty values, teach the same as structs."""
    rows = [
        KnownCode(system="one", code="A7", message="zorp blorbed", category="expired_card"),
        KnownCode(system="one", code="", message="gleep fleeped", category="network_timeout"),
    ]
    plain = [
        {"system": "one", "code": "A7", "message": "zorp blorbed", "category": "expired_card", "source": "manual"},
        {"system": "one", "code": None, "message": "gleep fleeped", "category": "network_timeout"},
    ]
    asked = [{"system": "two", "code": None, "message": "it was blorbed"}]

    one = FailureModel.trained_on(rows, with_phrases=False, confidence_min=0.0)
    other = FailureModel.trained_on(plain, with_phrases=False, confidence_min=0.0)

    assert one.classify_many(asked) == other.classify_many(asked)
    assert one.classify_many(asked)[0].category == "expired_card"
    with pytest.raises(ValueError, match="is no failure category"):
        FailureModel.trained_on([{"system": "one", "message": "zorp"}], with_phrases=False)
