"""Maintenance that is known in advance: what it explains is no anomaly."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from config.gateways import load_gateways
from config.yaml_source import YamlSource

Name = Annotated[str, Meta(min_length=1, max_length=60)]
Instant = Annotated[datetime, Meta(tz=True)]
PARTS = ("gateway", "method", "issuer", "network", "country")


class MaintenanceWindow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the traffic that is expected to be unwell for a time; a part left out means all."""

    starts_at: Instant
    ends_at: Instant
    gateway: Name | None = None
    method: Name | None = None
    issuer: Name | None = None
    network: Name | None = None
    country: Name | None = None
    reason: Annotated[str, Meta(max_length=300)] = ""

    @property
    def segment(self) -> tuple[str | None, str | None, str | None, str | None, str | None]:
        """The part of the traffic."""
        return self.gateway, self.method, self.issuer, self.network, self.country


def check_windows(windows: Sequence[MaintenanceWindow], gateways: Path, source: YamlSource) -> None:
    """Refuse windows that cannot be meant.

    Args:
        windows: as read.
        gateways: the file that lists the gateways.
        source: the file that they stand in.
    Raises: ConfigError: one ends before it starts, names no part or an unknown gateway or method, or overlaps another
        of the same part.
    """
    known = load_gateways(gateways) if windows else {}
    methods = {method for gateway in known.values() for method in gateway.methods}
    for place, window in enumerate(windows):
        at = f"$.anomalies.maintenance[{place}]"
        if window.ends_at <= window.starts_at:
            raise source.error(f"{at}.ends_at", "a maintenance window ends before it starts; swap the two")
        if not any(window.segment):
            raise source.error(at, f"a window for all payments would hide everything; name one of {', '.join(PARTS)}")
        for name, value, all_names in (("gateway", window.gateway, set(known)), ("method", window.method, methods)):
            if value is not None and value not in all_names:
                listed = ", ".join(sorted(all_names))
                raise source.error(
                    f"{at}.{name}", f"there is no {name} {value!r} in {gateways.name}; there are: {listed}"
                )
        for earlier, other in enumerate(windows[:place]):
            together = window.starts_at < other.ends_at and other.starts_at < window.ends_at
            if together and window.segment == other.segment:
                raise source.error(at, f"overlaps window {earlier + 1} of the same part; join the two into one")
