"""Templates: everything is escaped, nothing needs a looser content security policy."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import aiohttp_jinja2
import pytest
from aiohttp import web

from tests.web_documents import HOSTILE
from web.rendering import TEMPLATES, figure, money, percent, set_up_templates, span

PATHS = sorted(TEMPLATES.rglob("*.html"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_template_switches_escaping_off_nowhere(path: Path) -> None:
    """No template marks a value as safe or switches escaping off."""
    assert re.findall(r"\|\s*safe\b|autoescape|Markup", path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_template_runs_under_the_strict_policy(path: Path) -> None:
    """No template has an inline script, an inline style, an event attribute, or loads from another host."""
    text = path.read_text(encoding="utf-8")
    assert (
        re.findall(r"<script(?![^>]*\bsrc=\"/static/)|<style|\sstyle=|\son[a-z]+=|(?:src|href)=\"(?:https?:)?//", text)
        == []
    )


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_attributes_are_quoted(path: Path) -> None:
    """A value stands in no attribute without quotes, where escaping would not hold."""
    assert re.findall(r"\s[\w-]+=\{\{", path.read_text(encoding="utf-8")) == []


def test_hostile_text_is_escaped_by_the_environment() -> None:
    """The environment escapes text and attribute values by itself."""
    app = web.Application()
    set_up_templates(app)
    template = aiohttp_jinja2.get_env(app).from_string('<a title="{{ text }}">{{ text }}</a>')
    rendered = template.render(text=HOSTILE)
    assert "<script" not in rendered
    assert rendered.count("<") == 2
    assert rendered.count('"') == 2


@pytest.mark.parametrize(
    ("signal", "value", "words"),
    [
        ("success_rate", 0.023, "2.3 %"),
        ("latency", 2332.0, "2.33 s"),
        ("volume", 3463.97, "3,464.0 orders a minute"),
        ("failure_mix", 0.2, "20.0 %"),
        ("card_testing", 0.125, "12.5 %"),
        ("reversals", 0.012, "1.2 %"),
        ("unnamed", 1.0, "100.0 %"),
        ("retries", 0.754, "0.75 per failure"),
        ("amount_mix", 49_900.0, "49,900 minor units"),
    ],
)
def test_a_signal_is_written_in_its_own_unit(signal: str, value: float, words: str) -> None:
    """Shares are shares, and only a volume is so many a minute."""
    app = web.Application()
    set_up_templates(app)
    text = '{% import "macros.html" as ui %}{{ ui.signal_value(value, signal) }}'
    assert aiohttp_jinja2.get_env(app).from_string(text).render(value=value, signal=signal) == words


@pytest.mark.parametrize("value", [1_000.0, 18_550.0, 999_999.6, 12_345_678.0, 0.30171, -4_321.0])
def test_no_measured_number_has_an_exponent(value: float) -> None:
    """What a model was measured on is read by people: 18,550 payments, not 1.855e+04."""
    assert "e" not in figure(value)
    assert float(figure(value).replace(",", "")) == pytest.approx(value, rel=1e-3)


def test_every_template_compiles() -> None:
    """Every template can be parsed, with every filter it names."""
    app = web.Application()
    set_up_templates(app)
    environment = aiohttp_jinja2.get_env(app)
    names = [str(path.relative_to(TEMPLATES)) for path in PATHS]
    assert [environment.get_template(name).name for name in names] == names


def test_numbers_that_are_not_known_are_a_dash() -> None:
    """ "Not known" is written as a dash, never as zero."""
    assert (percent(None), money(None, "INR"), percent(0.0), money(0, "INR")) == ("–", "–", "0.0 %", "INR 0.00")


def test_money_follows_the_currency() -> None:
    """Minor units are hundredths, except where ISO 4217 says otherwise."""
    assert [money(amount, "EUR") for amount in (-0.2, -0.6, 0.2)] == ["EUR 0.00", "EUR -0.01", "EUR 0.00"]
    amounts = [money(12_345, currency) for currency in ("INR", "JPY", "KWD")]
    assert amounts == ["INR 123.45", "JPY 12,345", "KWD 12.345"]


def test_span_never_goes_negative() -> None:
    """Clocks that differ a little do not write a negative duration."""
    later = datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert span((datetime(2026, 1, 1, tzinfo=UTC) - later).total_seconds()) == "0 s"
