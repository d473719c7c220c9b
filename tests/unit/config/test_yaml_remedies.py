"""Slips in YAML: each is told with its line, what is wrong, and how to mend it."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.experiments_file import read_experiments
from actors.router_wiring import gateway_terms
from actors.routing_rules import read_rules
from config.errors import ConfigError
from config.gateways import load_gateways
from config.settings import DIRECTORY, load_settings
from ml.routing.policies import ARM_PARAMETERS, POLICIES

GATEWAYS = """gateways:
  - name: alpha
    title: Alpha
    methods: [card]
    currencies: [INR]
"""
RULES = """rules:
  - name: one
    order: [alpha]
"""
EXPERIMENTS = """experiments:
  - name: one
    seed: first
    arms:
      - {name: learner, policy: adaptive, weight: 0.5}
      - {name: control, policy: uniform, weight: 0.5}
"""


def read(path: Path, text: str) -> None:
    """Read a file of the kind that it says it is, as the system does."""
    if text.startswith("gateways"):
        load_gateways(path)
    elif text.startswith("rules"):
        read_rules(path, gateway_terms(load_settings({})))
    else:
        read_experiments(
            path, datetime(2026, 3, 2, tzinfo=UTC), policies=POLICIES, default_policy="adaptive",
            parameters=ARM_PARAMETERS, gateways=load_gateways(DIRECTORY / "gateways.yaml"),
        )  # fmt: skip


def problem_of(path: Path, text: str) -> str:
    """Read a file of one of the three kinds, and give back what is told of it, from the line on."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read(path, text)
    return str(caught.value).removeprefix(f"{path}:")


@pytest.mark.parametrize(
    ("text", "line", "remedy"),
    [
        # what YAML reads as something else
        (GATEWAYS + "    countries: [NO]\n", 6, 'YAML reads NO as a truth value; write it in quotes: "NO"'),
        (RULES + "    when: {countries: [DE, NO]}\n", 4, 'write it in quotes: "NO"'),
        (EXPERIMENTS + "    countries:\n      - DE\n      - no\n", 9, 'write it in quotes: "no"'),
        (RULES + "    when: {bins: [4111]}\n", 4, 'YAML reads 4111 as a number; write it in quotes: "4111"'),
        (GATEWAYS.replace("Alpha", "2026-03-02"), 3, 'YAML reads 2026-03-02 as a date; write it in quotes'),
        (RULES.replace("order: [alpha]", "split:\n      no: 1"), 4, 'reads the key no as a truth value; write it in'),
        (RULES + "    yes: 3\n", 4, 'YAML reads the key yes as a truth value; write it in quotes: "yes"'),
        # nothing
        (GATEWAYS.replace(" [card]", ""), 4, "nothing stands after `methods:`; give it a value, or take it out"),
        (RULES + "    when:\n", 4, "nothing stands after `when:`; give it a value, or take it out"),
        (EXPERIMENTS + "    methods: null\n", 7, "null is no value here; give it a value, or take it out"),
        # one value for several
        (GATEWAYS.replace("[card]", "card"), 4, "write a list, in brackets: [card]"),
        (RULES + "    when: {methods: card, issuers: [one]}\n", 4, "write a list, in brackets: [card]"),
        (EXPERIMENTS + "    goals: latency_ms\n", 7, "write a list, in brackets: [latency_ms]"),
        (GATEWAYS.replace("Alpha", "[Alpha]"), 3, "write one value, without brackets and dash"),
        # numbers
        (RULES + "    at_least: {bravo: 0.1, alpha: 30%}\n", 4, "a share is a number from 0 to 1: write 0.3"),
        (RULES + "    at_least:\n      bravo: 0.1\n      alpha: 30%\n", 6, "at_least.alpha); a share is a number"),
        (EXPERIMENTS + "    coverage: 30 %\n", 7, "a share is a number from 0 to 1: write 0.3"),
        (GATEWAYS + "    fee: {bps_success: 2%}\n", 6, "write the number without the percent sign: 2"),
        (EXPERIMENTS + "    coverage: 0,5\n", 7, "the decimal sign is a point: write 0.5"),
        (RULES + "    at_least: {alpha: 0,3}\n", 4, "a comma ends an entry here; write alpha: 0.3"),
        (EXPERIMENTS.replace("adaptive, weight: 0.5", "adaptive, weight: 0,5"), 5, "write weight: 0.5"),
        (RULES + "    when: {amount_minor_min: 100,000}\n", 4, "write amount_minor_min: 100000 or 100.000"),
        (RULES + "    when:\n      amount_minor_min: 100,000\n", 5, "write a number without separators: 100000"),
        (RULES + "    at_least: {alpha: '0.3'}\n", 4, "write it as a plain number, without quotes and exponent: 0.3"),
        (GATEWAYS + "    fee: {fixed_success: 1.5}\n", 6, "write a whole number"),
        (RULES + "    when: {amount_minor_max: inf}\n", 4, "write a number; for no bound, leave it out"),
        (RULES + "    when: {amount_minor_max: 1e400}\n", 4, "write a number"),
        (RULES + "    when: {amount_minor_max: nan}\n", 4, "write a number"),
        (RULES + "    when: {amount_minor_max: .inf}\n", 4, "write a whole number"),
        (RULES + "    at_least: {alpha: 150 %}\n", 4, "a share is a number from 0 to 1"),
        (RULES + "    at_least: {alpha: 2,5%}\n", 4, "a comma ends an entry here; write alpha: 2.5%"),
        (RULES.replace("order: [alpha]", "split: {alpha: 0,5, bravo: 0,5}"), 3, "entry here; write alpha: 0.5"),
        (RULES + "    at_least: {alpha: 0.1, bravo: -0.1}\n", 4, "bravo); not -0.1: write a number above 0, at most 1"),
        (EXPERIMENTS + "    coverage: 30\n", 7, "not 30: write a number above 0, at most 1; 30 % is 0.3"),
        (GATEWAYS + "    fee: {fixed_failure: -5}\n", 6, "not -5: write a number at least 0"),
        # layout
        (GATEWAYS + "\tcountries: [DE]\n", 6, "a tab stands here; indent with spaces"),
        (GATEWAYS + "    title: Beta\n", 6, "key '$.gateways[0].title' stands here a second time; remove one"),
        (GATEWAYS.replace("[card]", "[card"), 5, "close the bracket with ], and put a comma between its entries"),
        (GATEWAYS.replace("Alpha", "Alpha: the first"), 3, "a value with a colon in it needs quotes"),
        # names
        (GATEWAYS.replace("methods", "metods"), 4, "unknown field `metods` (at $.gateways[0]); did you mean methods?"),
        (RULES + "    When: {methods: [card]}\n", 4, "did you mean when?"),
        (RULES + "    when:\n      any:\n        - {issuer: x}\n", 6, "did you mean issuers?"),
        (EXPERIMENTS + "    primary: authorisation_rate\n", 7, "did you mean authorization_rate?"),
        (RULES + "commitments: [{gateway: alpha, payments: 5, per: year}]\n", 4, "known are day, month, week"),
        (GATEWAYS.replace("    title: Alpha\n", ""), 2, "add it, as `title: …`"),
        # capitals
        (RULES + "    when: {methods: [Card]}\n", 4, "no gateway takes 'Card'; taken are card, netbanking"),
        (EXPERIMENTS + "    methods: [upi, Card]\n", 7, "no gateway takes 'Card'; write card"),
        (GATEWAYS + GATEWAYS.partition("\n")[2].replace("alpha", "beta").replace("card", "Card"), 8,
         "method 'Card' is 'card' elsewhere; write it the same way each time"),
        (RULES + "    when: {countries: [de]}\n", 4, "'de' is no country; write two capital letters, as DE"),
        (EXPERIMENTS + "    countries: [de]\n", 7, "'de' does not; write DE"),
        (GATEWAYS.replace("[INR]", "[inr]"), 5, "'inr' does not; write INR"),
        (GATEWAYS.replace("name: alpha", "name: alpha pay"), 2, "'alpha pay' does not; write alpha_pay"),
        # times and truth values
        (EXPERIMENTS + "    start: 2026-01-01\n", 7, "write date, time and offset, as 2026-03-02T09:00:00+00:00"),
        (EXPERIMENTS + "    enabled: ja\n", 7, "write true or false"),
    ],
)  # fmt: skip
def test_a_slip_is_told_with_its_line_and_its_remedy(tmp_path: Path, text: str, line: int, remedy: str) -> None:
    """Whoever made it reads where it is, and what to write instead."""
    told = problem_of(tmp_path / "file.yaml", text)
    assert told.startswith(f"{line}: "), told
    assert remedy in told


@pytest.mark.parametrize(
    "place",
    [
        "when: {{amount_minor_max: {0}}}", "when: {0}", "at_least: {{alpha: {0}}}", "at_least: {{{0}: 0.1}}", "{0}: 1",
        "split: {{alpha: 0.5, {0}: 0.5}}", "when: {{methods: {0}}}", "when: {{methods: [{0}]}}",
        "when: {{bins: [{0}]}}",
    ],
)  # fmt: skip
@given(written=st.one_of(
    st.text("0123456789.,%-+eEinfNa_:'\"[]{} ", max_size=8),
    st.sampled_from(["inf", "-inf", "nan", ".inf", ".nan", "1e400", "0x1F", "1_000", "1:30", "~", "null", "on", "?",
                     "<<", "2026-13-45", "9" * 400, "!!int x", "&a", "*a", "0o17", "=", "1e5", "-0.0"]),
))  # fmt: skip
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_written_is_read_or_told(tmp_path: Path, place: str, written: str) -> None:
    """A router that looks at its rules must not end because of a word in them."""
    text = RULES.replace("order: [alpha]", place.format(written))
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    with contextlib.suppress(ConfigError):
        read(path, text)


@pytest.mark.parametrize("text", [GATEWAYS, RULES, EXPERIMENTS])
def test_without_the_slip_the_files_are_right(tmp_path: Path, text: str) -> None:
    """What the slips are put into has no mistake of its own."""
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    read(path, text)


def test_a_mistake_in_the_settings_has_its_remedy_too(tmp_path: Path) -> None:
    """Every YAML file is read in one place."""
    path = tmp_path / "settings.yaml"
    path.write_text("routing:\n  boldnes: 0.5\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"settings.yaml:2: .* did you mean boldness\?"):
        load_settings({"IPA_CONFIG": str(path)})


def test_the_line_of_a_place_that_is_no_place_is_not_known(tmp_path: Path) -> None:
    """A key that is no text once made the search for its line go on for ever."""
    path = tmp_path / "settings.yaml"
    path.write_text("1: 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r'settings.yaml:1: .* write it in quotes: "1"'):
        load_settings({"IPA_CONFIG": str(path)})
