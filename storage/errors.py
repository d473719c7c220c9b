"""The errors of storage. No pymongo exception leaves this folder.

::

    StoreError
    ├── StoreUnavailable   MongoDB does not answer now; trying again later may help
    ├── StoreConflict      another writer was faster; load again, handle again, store again
    ├── StoreRefused       MongoDB refuses this for good (rights, validation, size)
    └── TooManyAttempts    a read would look at more single attempts than a read may; choose less
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pymongo import errors

CONFLICT_CODES = frozenset({112, 11000})
"""WriteConflict and DuplicateKey."""


NO_SESSIONS = "Sessions are not supported"
"""What the driver says of a member of a replica set that was asked directly while it starts; no code tells it."""


class StoreError(Exception):
    """The root of all errors of storage."""


class StoreUnavailable(StoreError):
    """MongoDB does not answer now."""


class StoreConflict(StoreError):
    """Another writer changed the same documents first."""


class StoreRefused(StoreError):
    """MongoDB refuses this operation for good."""


class TooManyAttempts(StoreError):
    """A read would look at more single attempts than a read may.

    Args:
        attempts_max: how many it may.
        fitting: whether those are meant that may fit the filters, not all of the range.
    """

    def __init__(self, attempts_max: int, *, fitting: bool) -> None:
        which = "in this range that may fit" if fitting else "in this range"
        super().__init__(
            f"There are more than {attempts_max:,} attempts {which}; country, amount and arm are looked up attempt by "
            "attempt. Choose a shorter range, or other filters."
        )
        self.attempts_max, self.fitting = attempts_max, fitting


@contextmanager
def translated() -> Iterator[None]:
    """Turn pymongo's exceptions into ours.

    Raises:
        StoreUnavailable: no server, no primary, one that is starting, a lost connection, or a time-out.
        StoreConflict: a write conflict, a duplicate key, or a transaction that the server ended.
        StoreRefused: anything else.
    """
    try:
        yield
    except errors.BulkWriteError as error:
        codes = {failure.get("code") for failure in (error.details or {}).get("writeErrors", [])}
        if codes & CONFLICT_CODES:
            raise StoreConflict("another writer was faster") from error
        raise StoreRefused(f"MongoDB refused a batch of writes (codes {sorted(map(str, codes))})") from error
    except errors.DuplicateKeyError as error:
        raise StoreConflict("another writer was faster") from error
    except (errors.ConnectionFailure, errors.ExecutionTimeout, errors.WaitQueueTimeoutError) as error:
        raise StoreUnavailable(f"MongoDB does not answer: {type(error).__name__}") from error
    except errors.ConfigurationError as error:
        if NO_SESSIONS in str(error):
            raise StoreUnavailable("MongoDB is not ready: a server that is starting") from error
        raise StoreRefused(f"MongoDB and its driver do not fit: {error}") from error
    except OverflowError as error:  # of bson: a number of more than 64 bits, or a date before year 1
        raise StoreRefused("MongoDB cannot keep a number or a date so far out") from error
    except errors.PyMongoError as error:
        if isinstance(error, errors.OperationFailure) and error.code in CONFLICT_CODES:
            raise StoreConflict("another writer was faster") from error
        if error.has_error_label("TransientTransactionError"):
            # The server ended the transaction; the same writes may fail in the same way, so what they rest on is stale.
            raise StoreConflict(f"MongoDB ended the transaction: {_safe(error)}") from error
        if error.has_error_label("RetryableWriteError"):
            raise StoreUnavailable(f"MongoDB could not finish: {type(error).__name__}: {_safe(error)}") from error
        raise StoreRefused(f"MongoDB refused: {type(error).__name__}: {_safe(error)}") from error


def _safe(error: errors.PyMongoError) -> str:
    """The server's own short text; never the document that was sent."""
    if isinstance(error, errors.OperationFailure) and error.details:
        return str(error.details.get("codeName", error.code))
    return type(error).__name__
