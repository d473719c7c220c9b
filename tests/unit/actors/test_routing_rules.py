"""The rules file: mistakes with their line, and changes that are noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from actors.routing_rules import RulesFile, read_rules, read_with_doubts
from cli.__main__ import ipa
from config.errors import ConfigError
from ml.routing.eligibility import GatewayTerms
from ml.routing.rules import RuleSet

TERMS = GatewayTerms(methods=frozenset({"card", "upi"}), currencies=frozenset({"INR"}))
GOLD = GatewayTerms(methods=frozenset({"card"}), currencies=frozenset({"INR"}))
GATEWAYS = {"alpha": TERMS, "bravo": TERMS, "gold": GOLD}

GOOD = """\
rules:
  - name: large_cards
    when:
      methods: [card]
      all:
        - {amount_minor_min: 100000}
        - not: {countries: [DE]}
      any:
        - {networks: [visa]}
        - {bins: ["4111"]}
    split: {alpha: 0.7, bravo: 0.3}
    sticky: customer_id
  - name: floor
    at_least: {bravo: 0.05}
commitments:
  - {gateway: bravo, payments: 50000, per: month}
"""

MISTAKES = {
    "no gateway": ("rules:\n  - name: a\n    only: [alfa]\n", 2, "there is no gateway 'alfa'"),
    "nothing": ("rules:\n  - name: a\n    when: {methods: [card]}\n", 2, "does nothing"),
    "both": ("rules:\n  - name: a\n    order: [alpha]\n    split: {alpha: 1}\n", 4, "only one can decide"),
    "not whole": ("rules:\n  - name: a\n    split: {alpha: 0.7, bravo: 0.2}\n", 3, "adds up to 0.9, must be 1"),
    "twice": ("rules:\n  - {name: a, only: [alpha]}\n  - {name: a, only: [bravo]}\n", 3, "stands here twice"),
    "order twice": ("rules:\n  - name: a\n    order: [alpha, alpha]\n", 3, "names a gateway twice"),
    "unknown method": ("rules:\n  - name: a\n    when:\n      methods: [card, cheque]\n    only: [alpha]\n", 4,
                       "no gateway takes 'cheque'"),
    "deep": ("rules:\n  - name: a\n    when:\n      any:\n        - {currencies: [EUR]}\n    only: [alpha]\n", 5,
             "no gateway takes 'EUR'"),
    "amounts": ("rules:\n  - name: a\n    when: {amount_minor_min: 9, amount_minor_max: 8}\n    only: [alpha]\n", 3,
                "no payment fits"),
    "nobody": ("rules:\n  - name: a\n    only: [alpha]\n    never: [alpha]\n", 3, "leaves no gateway"),
    "outside": ("rules:\n  - name: a\n    only: [alpha]\n    order: [bravo]\n", 2, "names it all the same"),
    "much": ("rules:\n  - name: a\n    at_least: {alpha: 0.4, bravo: 0.3}\n", 3, "more than 0.5"),
    "never decides": ("rules:\n  - {name: a, order: [alpha]}\n  - {name: b, order: [bravo]}\n", 3,
                      "'a' above it decides for every payment"),
    "unknown key": ("rules:\n  - name: a\n    only: [alpha]\n    wenn: {}\n", 4, "unknown field"),
    "share": ("rules:\n  - name: a\n    split: {alpha: 1.5}\n", 3, "<= 1.0"),
    "bin": ("rules:\n  - name: a\n    when: {bins: [4x]}\n    only: [alpha]\n", 3, "regex"),
    "no such date": ("rules:\n  - {name: 2026-13-45, only: [alpha]}\n", None, "not valid YAML"),
    "itself": ("rules: &a [*a]\n", None, "contains itself"),
    "riddle": ("rules: " + "[" * 1200 + "]" * 1200 + "\n", None, "nested too deeply"),
    "empty": ("", None, "write `rules: []` to have no rules"),
    "comments alone": ("# rules: []\n", None, "write `rules: []` to have no rules"),
    "not nothing": ("rules:\n  - name: a\n    when: {not: {}}\n    never: [alpha]\n", 3, "fits no payment"),
    "any of none": ("rules:\n  - name: a\n    when:\n      any: []\n    never: [alpha]\n", 4, "`any: []` says nothing"),
    "no method": ("rules:\n  - name: a\n    when:\n      not:\n        methods: []\n    never: [alpha]\n", 5,
                  "`methods: []` says nothing"),
    "any of all": ("rules:\n  - name: a\n    when:\n      any:\n        - {methods: [upi]}\n        - {}\n"
                   "    never: [alpha]\n", 6, "fits every payment"),
    "only none": ("rules:\n  - name: a\n    only: []\n    never: [alpha]\n", 3, "names no gateway"),
    "contradiction": ("rules:\n  - name: a\n    when: {amount_minor_max: 8, all: [{amount_minor_min: 9}]}\n"
                      "    never: [alpha]\n", 3, "contradicts itself"),
    "apart": ("rules:\n  - {name: a, only: [alpha]}\n  - {name: b, only: [bravo]}\n", 3,
              "rules 'a' and 'b' together leave card payments in INR no gateway, which alpha, bravo, gold would take"),
    "terms": ("rules:\n  - name: a\n    when: {methods: [upi]}\n    only: [gold]\n", 4,
              "rule 'a' leaves upi payments in INR no gateway, which alpha, bravo would take"),
    "step by step": ("rules:\n  - {name: a, never: [alpha]}\n  - name: b\n    when: {issuers: [hdfc], methods: [upi]}\n"
                     "    never: [bravo]\n", 5, "upi payments in INR of issuer hdfc no gateway"),
    "floors": ("rules:\n  - {name: a, at_least: {alpha: 0.3}}\n  - name: b\n    when: {methods: [upi]}\n"
               "    at_least: {bravo: 0.3}\n", 5, "rules 'a' and 'b' give away 0.6 of upi payments in INR"),
    "promise": ("commitments:\n  - {gateway: carla, payments: 5, per: day}\n", 2, "no gateway 'carla'"),
    "promise twice": ("commitments:\n  - {gateway: alpha, payments: 5, per: day}\n"
                      "  - {gateway: alpha, payments: 6, per: day}\n", 3, "two promises per day"),
}  # fmt: skip


def test_a_file_without_mistakes(tmp_path: Path) -> None:
    """Everything that a rule may say."""
    file = tmp_path / "rules.yaml"
    file.write_text(GOOD)
    found = read_rules(file, GATEWAYS)
    assert [rule.name for rule in found.rules] == ["large_cards", "floor"]
    assert found.rules[0].when.all[1].not_ is not None
    assert found.commitments[0].per == "month"


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, name: str) -> None:
    """And with what to do about it."""
    text, line, words = MISTAKES[name]
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_rules(file, GATEWAYS)
    assert refused.value.line == line, str(refused.value)
    assert words in str(refused.value)


MEANT = {
    "all in one never": ("rules:\n  - name: a\n    when: {methods: [upi]}\n    never: [alpha, bravo]\n", 4,
                         "it names every gateway that takes them (alpha, bravo)"),
    "some of its payments": ("rules:\n  - {name: a, only: [gold]}\n", 2, "leaves upi payments in INR no gateway"),
    "a number has its network": ("rules:\n  - {name: a, when: {bins: ['4']}, only: [alpha]}\n"
                                 "  - {name: b, when: {networks: [mastercard]}, only: [bravo]}\n", 3,
                                 "of network mastercard whose card begins with 4"),
    "cards have networks": ("rules:\n  - {name: a, when: {networks: [amex]}, only: [alpha]}\n"
                            "  - {name: b, when: {methods: [upi]}, only: [bravo]}\n", 3,
                            "upi payments in INR of network amex"),
}  # fmt: skip


@pytest.mark.parametrize("name", MEANT)
def test_what_may_be_meant_is_a_warning(tmp_path: Path, name: str) -> None:
    """A refusal on purpose, of some payments only, and of such that most likely do not exist."""
    text, line, words = MEANT[name]
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    _, doubts = read_with_doubts(file, GATEWAYS)
    assert [doubt.startswith(f"{file}:{line}: ") and words in doubt for doubt in doubts] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "rules:\n  - {name: a, only: [alpha]}\n  - {name: b, enabled: false, only: [bravo]}\n",
        "rules:\n  - {name: a, when: {methods: [card]}, only: [alpha]}\n"
        "  - {name: b, when: {methods: [upi]}, only: [bravo]}\n",
        "rules:\n  - {name: a, when: {amount_minor_min: 5}, only: [alpha]}\n"
        "  - {name: b, when: {amount_minor_max: 4}, only: [bravo]}\n",
        "rules:\n  - {name: a, at_least: {alpha: 0.3}}\n  - {name: b, at_least: {alpha: 0.3, bravo: 0.2}}\n",
        "rules:\n  - {name: a, at_least: {alpha: 0.3}}\n  - {name: b, at_least: {bravo: 0.3}}\n"
        "  - {name: c, never: [bravo]}\n",
        "rules:\n  - {name: a, at_least: {alpha: 0.3}}\n"
        "  - {name: b, when: {attempt_number_min: 2}, at_least: {bravo: 0.3}}\n",
    ],
    ids=["not enabled", "methods", "amounts", "the higher floor", "a floor of whom a rule excludes", "retries"],
)
def test_rules_that_never_meet_are_no_mistake(tmp_path: Path, text: str) -> None:
    """Neither do they refuse a payment, nor promise too much."""
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    assert read_with_doubts(file, GATEWAYS)[1] == []


def test_rules_that_tell_too_many_kinds_apart_are_said_to_be_unchecked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at all would keep the router from everything else."""
    monkeypatch.setattr("actors.rule_checks.LOOKS_MAX", 10)
    file = tmp_path / "rules.yaml"
    file.write_text(GOOD)
    assert ["not all were looked at" in doubt for doubt in read_with_doubts(file, GATEWAYS)[1]] == [True]


def test_a_save_that_an_editor_has_not_finished_changes_nothing(tmp_path: Path) -> None:
    """An empty file is told, the rules before stay, and the finished file counts."""
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD)
    file = RulesFile(path, GATEWAYS)
    file.poll()
    path.write_text("")
    assert isinstance(file.poll(), ConfigError)
    path.write_text("rules: []\n")
    assert file.poll() == RuleSet()


def test_a_change_is_noticed_a_mistake_is_told_once_and_a_touch_is_nothing(tmp_path: Path) -> None:
    """What was in force stays in force meanwhile, since nothing else is handed out."""
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD)
    file = RulesFile(path, GATEWAYS)
    assert isinstance(file.poll(), RuleSet)
    os.utime(path, (1, 1))
    assert file.poll() is None
    path.write_text("rules:\n  - name: a\n    only: [alfa]\n")
    assert isinstance(file.poll(), ConfigError)
    assert file.poll() is None
    path.write_text(GOOD + "\n# mended")
    assert isinstance(file.poll(), RuleSet)
    path.unlink()
    assert isinstance(file.poll(), ConfigError)
    assert file.poll() is None


def test_the_command_checks_the_file_that_ships_and_refuses_a_mistake(tmp_path: Path) -> None:
    """`ipa rules check`."""
    shipped = CliRunner().invoke(ipa, ["rules", "check"], catch_exceptions=False)
    assert "0 rules, 0 commitments, no mistake" in shipped.output
    mistaken = tmp_path / "rules.yaml"
    mistaken.write_text(
        "rules:\n  - name: a\n    when: {methods: [wallet]}\n    never: [alpha, bravo, charlie, delta, echo]\n"
    )
    meant = CliRunner().invoke(ipa, ["rules", "check", str(mistaken)], catch_exceptions=False)
    assert f"warning: {mistaken}:4: rule 'a' refuses wallet payments in INR" in meant.stderr
    assert "no mistake" in meant.stdout
    mistaken.write_text("rules:\n  - name: a\n    only: [nobody]\n")
    with pytest.raises(ConfigError, match="no gateway 'nobody'"):
        CliRunner().invoke(ipa, ["rules", "check", str(mistaken)], catch_exceptions=False)
