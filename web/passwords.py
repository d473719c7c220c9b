"""Argon2id password hashes, computed off the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

PASSWORD_LENGTH_MAX: Final = 1_000
"""Longer passwords are refused unhashed, so that nobody can keep the hashing threads busy."""

_HASHER: Final = PasswordHasher()
_NOBODY: Final = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""A hash that no password has, checked when the name is unknown, so that both cases take the same time."""


async def hash_password(executor: Executor, password: str) -> str:
    """Hash a password with a fresh salt."""
    return await asyncio.get_running_loop().run_in_executor(executor, _HASHER.hash, password)


def hash_now(password: str) -> str:
    """Hash a password with a fresh salt, where nobody else waits."""
    return _HASHER.hash(password)


async def password_fits(executor: Executor, password_hash: str | None, password: str) -> bool:
    """Tell whether a password belongs to a hash; as slow for an unknown person (None) as for a known one."""
    if len(password) > PASSWORD_LENGTH_MAX:
        return False
    loop = asyncio.get_running_loop()
    fits = await loop.run_in_executor(executor, _verify, password_hash or _NOBODY, password)
    return fits and password_hash is not None


def needs_new_hash(password_hash: str) -> bool:
    """Tell whether a hash was made with weaker parameters than today's."""
    return _HASHER.check_needs_rehash(password_hash)


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
