from __future__ import annotations

import re

import pytest

from ml.failures.taxonomy import CATEGORIES, CATEGORY_UNKNOWN, NEVER_AGAIN, RETRIES_BLINDLY, UNKNOWN, category_of


def test_there_are_twenty_categories_with_different_names():
    """The taxonomy has twenty reasons, each named once, and "unknown" is none of them."""
    names = [category.name for category in CATEGORIES]

    assert len(set(names)) == len(names) == 20
    assert UNKNOWN not in names
    assert category_of(UNKNOWN) is CATEGORY_UNKNOWN


def test_automatic_retries_have_a_delay_and_a_bound_and_others_have_none():
    """Whatever may be retried without a person says when and how often at most; all else says zero times."""
    for category in (*CATEGORIES, CATEGORY_UNKNOWN):
        automatic = category.retry in RETRIES_BLINDLY or category.retry == "check_status_then_other_gateway"

        assert (category.attempts_max > 0, category.delay_s_min is not None) == (automatic, automatic), category.name


def test_a_timeout_is_looked_up_before_anything_is_sent_again():
    """The money of a timed-out payment may have moved, so its policy starts with asking for the status."""
    assert category_of("network_timeout").retry == "check_status_then_other_gateway"
    assert category_of("network_timeout").retry not in RETRIES_BLINDLY


def test_no_policy_is_both_forbidden_and_automatic():
    """A policy cannot forbid a retry and retry by itself; unknown failures are never retried by themselves."""
    assert not NEVER_AGAIN & RETRIES_BLINDLY
    assert CATEGORY_UNKNOWN.retry not in RETRIES_BLINDLY


def test_shopper_messages_hide_fraud_and_theft():
    """Lost, stolen and suspected cards get the very text of a plain decline, and no text names such a suspicion."""
    plain = category_of("do_not_honor").shopper_message

    assert category_of("lost_or_stolen_card").shopper_message == plain
    assert category_of("suspected_fraud").shopper_message == plain
    for category in (*CATEGORIES, CATEGORY_UNKNOWN):
        words = set(re.findall(r"[a-z]+", category.shopper_message.lower()))
        assert not words & {"fraud", "lost", "stolen", "suspicious", "suspected", "risk", "police"}, category.name


def test_a_wrong_name_is_refused_with_the_right_ones():
    """Whoever asks for a category that does not exist is told which do."""
    with pytest.raises(ValueError, match=r"'bad_luck' is no failure category; choose one of .*insufficient_funds"):
        category_of("bad_luck")
