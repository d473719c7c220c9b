"""Who may do what: four roles, each with what the ones before it may and something more."""

from __future__ import annotations

from typing import Final, Literal, get_args

from storage.users import Role

Permission = Literal[
    "read",
    "audit:read",
    "anomalies:write",
    "failures:write",
    "gateways:write",
    "routing:write",
    "experiments:write",
    "models:write",
    "dead-letters:write",
    "settings:read",
    "users:write",
]
"""``read``: every figure, page and payment. The others are what their names say; API tokens carry them as scopes."""

PERMISSIONS: Final[tuple[Permission, ...]] = get_args(Permission)

_ANALYST: Final = ("read", "audit:read", "anomalies:write", "failures:write")
_OPERATOR: Final = (
    *_ANALYST,
    "gateways:write",
    "routing:write",
    "experiments:write",
    "models:write",
    "dead-letters:write",
    "settings:read",
)

MAY: Final[dict[Role, frozenset[str]]] = {
    "viewer": frozenset({"read"}),
    "analyst": frozenset(_ANALYST),
    "operator": frozenset(_OPERATOR),
    "admin": frozenset(PERMISSIONS),
}
"""What each role may."""

ROLE_IN_WORDS: Final[dict[Role, str]] = {
    "viewer": "sees every figure and payment",
    "analyst": "also handles anomalies, corrects failure codes and reads the audit log",
    "operator": "also pauses gateways, steers experiments, models and dead letters",
    "admin": "also manages people and API tokens",
}
