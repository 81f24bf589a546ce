"""What each response to an upload means. Uploads are free, so everything but a definite refusal is retried."""

from __future__ import annotations

import pytest

from omni_async.api.outcomes import SubmitOutcome, classify_upload, upload_retry_timeout
from omni_async.errors import RateLimited, TransportError
from omni_async.settings import Retry
from tests.support.replies import DOCUMENTED_402, DOCUMENTED_429, HTML, NO_CHANNEL_500, REAL_401, error, reply


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        (reply(200, {"url": "https://u/1"}), SubmitOutcome.ACCEPTED),
        (reply(200, {}), SubmitOutcome.UNREADABLE),
        (reply(200, HTML), SubmitOutcome.UNREADABLE),
        (reply(400, error("", "unsupported image type")), SubmitOutcome.REJECTED),
        (reply(413, error("", "file size 5 exceeds maximum 4 bytes")), SubmitOutcome.REJECTED),
        (reply(413, HTML), SubmitOutcome.REJECTED),
        (reply(401, REAL_401), SubmitOutcome.STOP_ALL),
        (reply(402, DOCUMENTED_402), SubmitOutcome.STOP_ALL),
        (reply(403, HTML), SubmitOutcome.STOP_ALL),
        (reply(429, DOCUMENTED_429), SubmitOutcome.RETRY_LATER),
        (reply(500, error("", "failed to upload image")), SubmitOutcome.AMBIGUOUS),
        (reply(500, NO_CHANNEL_500), SubmitOutcome.NO_CHANNEL),
        (reply(502, HTML), SubmitOutcome.AMBIGUOUS),
        (TransportError("reset"), SubmitOutcome.AMBIGUOUS),
        (TransportError("unreachable", sent=False), SubmitOutcome.NOT_SENT),
    ],
)
def test_the_outcome_of_an_upload(response: object, outcome: SubmitOutcome) -> None:
    """A definite refusal ends the upload immediately. Everything else is retried for as long as the settings say."""
    result = classify_upload(response, now=0.0, operation="upload of x")  # type: ignore[arg-type]
    assert result.outcome is outcome
    assert (result.url == "https://u/1") == (outcome is SubmitOutcome.ACCEPTED)
    is_final = outcome in {SubmitOutcome.ACCEPTED, SubmitOutcome.REJECTED, SubmitOutcome.STOP_ALL}
    assert (upload_retry_timeout(outcome, Retry(timeout=60)) == 0) == is_final
    assert isinstance(result.error, RateLimited) == (outcome is SubmitOutcome.RETRY_LATER)
