"""Choices as they stand in an address."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from storage.read_models.amount_bands import AMOUNT_BANDS
from storage.read_models.chosen import CHOICES, FAILURE_CHOICES, Chosen
from web.api.choices import Band
from web.choosing import LiveChoice, chosen_of, live_choice


def of(address: str) -> Chosen:
    """Read a query string."""
    return chosen_of(lambda name: parse_qs(address).get(name, []))


def test_a_choice_survives_its_address() -> None:
    """What a link says is what was chosen, for every kind of name."""
    chosen = Chosen(
        gateway=("a&b",), country=("DE", "IN"), amount=("10-50", "1000-up"), arm=("shop #1/A+B", "wallet/control")
    )
    choice = LiveChoice(range="15m", chosen=chosen)
    assert of(choice.address()) == chosen
    assert of(choice.address(without=("country", "IN"))).country == ("DE",)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("country=in", "two capital letters"),
        ("country=IND", "two capital letters"),
        ("country=IN%0A", "two capital letters"),
        ("country[$ne]=IN&country=%7B%22$ne%22:1%7D", "two capital letters"),
        ("amount=0-11", "one of 0-10, 10-50"),
        ("amount=0-10%7C10-50", "one of 0-10, 10-50"),
        ("arm=control", "experiment/arm"),
        ("arm=/control", "experiment/arm"),
        ("arm=e/", "experiment/arm"),
        (f"arm={'e' * 61}/a", "experiment/arm"),
        (f"gateway={'g' * 61}", "names of each kind"),
        ("&".join(f"country=A{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTU"), "Up to 20 names"),
    ],
)
def test_what_does_not_fit_is_told(address: str, said: str) -> None:
    """One sentence says how it is written; nothing of it is chosen."""
    with pytest.raises(ValueError, match=said):
        of(address)


def test_a_page_heeds_what_it_can_tell() -> None:
    """A failure has no arm: the page leaves that be, and a wrong one is no problem there."""
    choice = live_choice({"arm": "nonsense", "country": "IN"}, FAILURE_CHOICES)
    assert (choice.problem, choice.chosen) == ("", Chosen(country=("IN",)))
    assert live_choice({"arm": "nonsense"}, CHOICES).problem


def test_the_interface_names_the_bands_that_there_are() -> None:
    """The described values are those of the filter."""
    assert set(Band.__origin__.__args__) == set(AMOUNT_BANDS)
