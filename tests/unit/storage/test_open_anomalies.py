"""What open anomalies cost together."""

from __future__ import annotations

from storage.read_models.open_anomalies import AtRisk, at_risk_of


def anomaly(
    currency: str | None, loss: float | None, low: float | None = None, high: float | None = None
) -> dict[str, object]:
    """An open anomaly as it is stored."""
    return {"currency": currency, "loss_minor_per_minute": loss, "loss_low": low, "loss_high": high}


def test_money_at_risk_is_added_up_by_currency() -> None:
    """Currencies stay apart, intervals add up, and what costs nothing that is known is not counted."""
    found = at_risk_of([
        anomaly("EUR", 100.0, 80.0, 150.0),
        anomaly("INR", 7_000.0, 6_000.0, 9_000.0),
        anomaly("INR", 3_000.0),
        anomaly("INR", None),
        anomaly(None, None),
        anomaly("USD", 0.0),
    ])  # fmt: skip
    assert found == [
        AtRisk(currency="INR", per_minute_minor=10_000.0, low=9_000.0, high=12_000.0, anomalies=2),
        AtRisk(currency="EUR", per_minute_minor=100.0, low=80.0, high=150.0, anomalies=1),
    ]
