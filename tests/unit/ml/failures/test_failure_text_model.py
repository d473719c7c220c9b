from __future__ import annotations

import io

import numpy as np
import pytest

from ml.failures.codes import KnownCode
from ml.failures.text_model import TextModel


def row(category: str, message: str, code: str = "") -> KnownCode:
    """What a nameless system said, and what it meant."""
    return KnownCode(system="", code=code, message=message, category=category)


ROWS = [
    row("expired_card", "card has expired"),
    row("expired_card", "expired card"),
    row("network_timeout", "request timed out"),
    row("network_timeout", "timeout at host"),
]


def test_probabilities_add_up_to_one_in_the_order_of_the_categories():
    """Each row is a distribution over the categories, and the words it shares with a category raise that one."""
    model = TextModel.learned(ROWS)

    found = model.probabilities([("", "the card is expired"), ("", "host timeout")])

    assert model.categories == ("expired_card", "network_timeout")
    assert found.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert found.argmax(axis=1).tolist() == [0, 1]


def test_text_that_shares_nothing_gets_no_probability():
    """A text without a single known part is not spread over the categories: it gets nothing at all."""
    assert TextModel.learned(ROWS).probabilities([("", "ЖЖЖ"), ("777777", "")]).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_learning_twice_gives_the_same_model():
    """There is no chance in learning: the same rows give the same probabilities to the last bit."""
    asked = [("", "card timeout"), ("54", "declined"), ("", "expired at host")]

    assert np.array_equal(TextModel.learned(ROWS).probabilities(asked), TextModel.learned(ROWS).probabilities(asked))


def test_many_failures_get_the_same_answer_as_one_by_one():
    """Answers do not depend on what else is in the batch, also where the batch is worked through in parts."""
    model = TextModel.learned(ROWS)
    asked = [("", f"card {'expired' if at % 3 else 'timeout'}") for at in range(5000)]

    found = model.probabilities(asked)

    assert found[[0, 1, 4999]] == pytest.approx(np.vstack([model.probabilities([asked[at]]) for at in (0, 1, 4999)]))


def test_codes_count_where_they_are_customary():
    """With nothing but a number to go by, a customary number that was learned decides."""
    model = TextModel.learned([*ROWS, row("expired_card", "declined", "54"), row("network_timeout", "declined", "68")])

    found = model.probabilities([("054", ""), ("68", "")])

    assert found.argmax(axis=1).tolist() == [0, 1]


def test_words_for_a_category_are_words_of_the_text():
    """The explanation names words that were there, the strongest first."""
    assert TextModel.learned(ROWS).words_for("", "card expired, sorry", "expired_card")[0] in {
        "expired",
        "card expired",
        "card",
    }


def test_one_category_is_too_few():
    """A model cannot tell one category from nothing."""
    with pytest.raises(ValueError, match="at least two categories"):
        TextModel.learned(ROWS[:2])


def test_a_stored_model_answers_as_before():
    """What is written as plain arrays and read again gives the same probabilities, explanations included."""
    model = TextModel.learned([*ROWS, row("expired_card", "declined", "54"), row("network_timeout", "declined", "68")])
    asked = [("", "card timeout"), ("54", "declined"), ("68", ""), ("", "ЖЖЖ")]

    read = TextModel.loaded(model.stored())

    assert read.categories == model.categories
    assert read.probabilities(asked) == pytest.approx(model.probabilities(asked), abs=1e-6)
    assert read.words_for("", "card expired", "expired_card") == model.words_for("", "card expired", "expired_card")


@pytest.mark.parametrize("body", [b"", b"PK", b"not a model", TextModel.learned(ROWS).stored()[:-200]])
def test_what_is_no_model_is_refused(body: bytes):
    """A body that is cut off, or something else, is refused with what to do about it."""
    with pytest.raises(ValueError, match="no stored text model"):
        TextModel.loaded(body)


def test_a_model_that_holds_code_is_refused():
    """Reading a stored model never runs what is in it: pickled arrays are refused."""
    file = io.BytesIO()
    np.savez(file, stored_as=np.array([object()], dtype=object))

    with pytest.raises(ValueError, match="no stored text model"):
        TextModel.loaded(file.getvalue())
