"""Who asks: a person with a session, or a program with a token."""

from __future__ import annotations

from typing import Literal

import msgspec


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A caller. ``name``: the person, or ``token:NAME``; ``role``: of the person, ``token`` for a program."""

    name: str
    role: str
    permissions: frozenset[str]
    via: Literal["session", "token"]

    def may(self, permission: str) -> bool:
        """Whether the caller may do this."""
        return permission in self.permissions
