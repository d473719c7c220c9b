"""The gateways that exist, as listed by the operator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from config.yaml_source import YamlSource

Name = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,59}$")]


class Fee(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one attempt costs: minor units, and basis points of the amount when it succeeds."""

    fixed_success: Annotated[int, Meta(ge=0)] = 0
    fixed_failure: Annotated[int, Meta(ge=0)] = 0
    bps_success: Annotated[float, Meta(ge=0, le=10_000)] = 0.0

    def of(self, status: str, amount_minor: int) -> int:
        """What an attempt that stands so costs, whole minor units; one without an outcome costs nothing yet.

        >>> Fee(fixed_success=200, fixed_failure=20, bps_success=180).of("succeeded", 10_000)
        380
        """
        if status in ("succeeded", "reversed"):
            return self.fixed_success + round(self.bps_success * amount_minor / 10_000)
        return self.fixed_failure if status == "failed" else 0


class Gateway(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One gateway: what it takes, where, and for how much. No countries means all countries."""

    name: Name
    title: Annotated[str, Meta(min_length=1, max_length=60)]
    methods: Annotated[list[Name], Meta(min_length=1, max_length=50)]
    currencies: Annotated[list[Annotated[str, Meta(pattern=r"^[A-Z]{3}$")]], Meta(min_length=1, max_length=200)]
    countries: Annotated[list[Annotated[str, Meta(pattern=r"^[A-Z]{2}$")]], Meta(max_length=250)] = []
    fee: Fee = Fee()


class _GatewaysFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    gateways: Annotated[list[Gateway], Meta(min_length=1, max_length=200)]


def load_gateways(path: Path) -> dict[str, Gateway]:
    """Read the gateways file, keyed by name.

    Raises: ConfigError: the file does not fit, names a gateway twice, or spells a method in two ways.
    """
    source = YamlSource(path)
    gateways: dict[str, Gateway] = {}
    methods: dict[str, str] = {}
    for index, gateway in enumerate(source.as_type(_GatewaysFile).gateways):
        if gateway.name in gateways:
            raise source.error(f"$.gateways[{index}].name", f"gateway {gateway.name!r} is listed twice; remove one")
        gateways[gateway.name] = gateway
        for number, method in enumerate(gateway.methods):
            other = methods.setdefault(method.lower(), method)
            if other != method:
                place = f"$.gateways[{index}].methods[{number}]"
                raise source.error(place, f"method {method!r} is {other!r} elsewhere; write it the same way each time")
    return gateways
