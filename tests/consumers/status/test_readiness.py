"""How ready a provider is, from what is known of it."""

from datetime import UTC, datetime

import pytest

from consumers.routing.health import ProviderHealth, ProviderRecord
from consumers.sdk.outcomes import Accepted, Refused, TryLater
from consumers.status.readiness import assess
from schemas.vocabulary import Reason

AT = datetime(2030, 1, 1, 9, tzinfo=UTC)
TOOK, PROBED = (
    "it accepted a message at 2030-01-01T09:00:00+00:00",
    ("its probe succeeded at 2030-01-01T09:00:00+00:00; it has accepted no message yet"),
)
NOT_YET = "everything it needs is set; {}; it has accepted no message yet"


@pytest.mark.parametrize(
    ("seen", "known", "word", "evidence"),
    [
        (ProviderRecord(), {"setup_problem": "KEY: not set"}, "setup_needed", "KEY: not set"),
        (
            ProviderRecord(last_success=AT),
            {"pause_reason": "paused after failures"},
            "paused",
            "paused after failures",
        ),
        (
            ProviderRecord(last_success=AT, probe_problem="no"),
            {},
            "degraded",
            "its probe failed: no",
        ),
        (ProviderRecord(), {}, "configured", NOT_YET.format("it is about to be probed")),
        (
            ProviderRecord(probed_at=AT),
            {"probes": False},
            "configured",
            NOT_YET.format("its account cannot be probed"),
        ),
        (ProviderRecord(probed_at=AT), {}, "probed", PROBED),
        (ProviderRecord(probed_at=AT, last_success=AT), {}, "live", TOOK),
        (ProviderRecord(last_success=AT), {"probes": False}, "live", TOOK),
        (ProviderRecord(last_success=AT), {"is_simulated": True}, "simulated", TOOK),
        (ProviderRecord(), {"is_simulated": True}, "simulated", "it was not called yet"),
    ],
)
def test_the_most_that_can_be_said(
    seen: ProviderRecord, known: dict[str, object], word: str, evidence: str
) -> None:
    plain: dict[str, object] = {"is_simulated": False, "probes": True}
    plain |= {"setup_problem": None, "pause_reason": None}
    verdict = assess(seen, **(plain | known))  # type: ignore[arg-type]
    assert (verdict.readiness, verdict.evidence) == (word, evidence)
    assert (verdict.problem is None) == (word not in ("setup_needed", "paused", "degraded"))


def test_a_refusal_is_a_good_answer_and_no_success() -> None:
    health = ProviderHealth()
    health.record_probe("p", "it does not answer", at=AT)
    health.record_outcome("p", Refused(reason=Reason.INVALID_RECIPIENT), at=AT)
    assert (health.get("p").probe_problem, health.get("p").last_success) == (None, None)
    health.record_outcome("p", TryLater(reason=Reason.PROVIDER_ERROR), at=AT)
    assert health.get("p").last_success is None
    health.record_outcome("p", Accepted(), at=AT)
    assert health.get("p").last_success == AT


def test_a_probe_that_fails_takes_nothing_from_what_was_known() -> None:
    health = ProviderHealth()
    health.record_probe("p", None, at=AT)
    health.record_probe("p", "it does not answer", at=AT.replace(hour=10))
    assert (health.get("p").probed_at, health.get("p").probe_problem) == (AT, "it does not answer")
