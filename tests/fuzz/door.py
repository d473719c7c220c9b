"""Coverage-guided fuzzing of the door: ``python -m tests.fuzz.door [CORPUS] [-runs=N]`` (libFuzzer's options).

Whatever bytes come, the decoder takes them or refuses them with one of its two errors, and the ingestor folds what was
taken or refuses it with a reason; it never stores half of it, and no error text holds a card number.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import atheris

with atheris.instrument_imports(include=["messaging", "actors.ingestor"]):
    from actors.ingestor import Ingestor, Refusal
    from messaging.card_data import refuse_card_data
    from messaging.codec import Decoder, encode
    from messaging.consumer import Delivery
    from messaging.contracts import AttemptReported, AttemptsRecorded
    from messaging.envelope import Envelope
    from messaging.errors import CardDataRefused, MessageMalformed
    from storage.attempts import AttemptChange, attempt_document, attempt_state
    from tests.factories import NOON, report

DECODER = Decoder([AttemptReported], from_outside=True)
INGESTOR = Ingestor(["alpha", "bravo"])
GOOD = json.loads(encode(report()))
FIELDS = sorted(GOOD)


def door(data: bytes) -> None:
    """One input: as it comes, or as the value of a field of a good report."""
    body = data
    if data[:1] and data[0] % 2:
        text = data[2:].decode("utf-8", "replace")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        field = FIELDS[(data[1] if len(data) > 1 else 0) % len(FIELDS)]
        try:
            body = json.dumps(GOOD | {field: value}).encode()
        except (ValueError, RecursionError):
            return
    try:
        message = DECODER.decode(Delivery(1, False, Envelope(type="attempt.reported"), body))
    except MessageMalformed as error:
        refuse_card_data(json.dumps({"reason": error.problem}).encode())
        return
    except CardDataRefused:
        return
    check(message)


def check(message: AttemptReported) -> None:
    """A report is either refused, or makes one change that reads back as it was written, and one announcement."""
    facts = list(INGESTOR.handle([message], datetime.now(UTC), {}, batch_id="bat_1"))
    if any(isinstance(fact, Refusal) for fact in facts):
        assert len(facts) == 1
        return
    change, said = facts
    assert isinstance(change, AttemptChange)
    assert isinstance(said, AttemptsRecorded)
    assert attempt_state(attempt_document(change.after)) == change.after
    again = list(INGESTOR.handle([message], NOON, {message.attempt_id: change.after}, batch_id="bat_2"))
    assert [fact for fact in again if not isinstance(fact, Refusal)] == []


if __name__ == "__main__":
    atheris.Setup(sys.argv, door)
    atheris.Fuzz()
