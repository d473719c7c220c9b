"""What MongoDB and its driver say, in our words."""

from __future__ import annotations

import pytest
from pymongo import errors

from storage.errors import StoreConflict, StoreError, StoreRefused, StoreUnavailable, translated

SECRET = "4111111111111111"


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        pytest.param(errors.AutoReconnect(SECRET), StoreUnavailable, id="a lost connection"),
        pytest.param(errors.NotPrimaryError(SECRET), StoreUnavailable, id="no primary"),
        pytest.param(errors.ExecutionTimeout(SECRET), StoreUnavailable, id="took too long"),
        pytest.param(
            errors.ConfigurationError("Sessions are not supported by this MongoDB deployment"),
            StoreUnavailable,
            id="a member that is starting, asked directly",
        ),
        pytest.param(
            errors.ConfigurationError("Server at h:1 reports wire version 6, but this version requires at least 8"),
            StoreRefused,
            id="a server that is too old",
        ),
        pytest.param(errors.DuplicateKeyError(SECRET), StoreConflict, id="somebody was faster"),
        pytest.param(errors.OperationFailure(SECRET, 112), StoreConflict, id="a write conflict"),
        pytest.param(errors.OperationFailure(SECRET, 13), StoreRefused, id="no right"),
        pytest.param(errors.BulkWriteError({"writeErrors": [{"code": 11000}]}), StoreConflict, id="one of many"),
        pytest.param(errors.BulkWriteError({"writeErrors": [{"code": 121}]}), StoreRefused, id="validation"),
        pytest.param(OverflowError(SECRET), StoreRefused, id="a number that is too large"),
    ],
)
def test_an_error_is_ours_and_tells_no_document(said: Exception, ours: type[StoreError]) -> None:
    """Whether trying again may help decides the kind; what was sent is never in the words."""
    with pytest.raises(ours) as caught, translated():
        raise said
    assert SECRET not in str(caught.value)
