"""The readiness of a provider, from what is known about it."""

from datetime import UTC, datetime

import pytest

from consumers.routing.health import ProviderHealth, ProviderRecord
from consumers.sdk.outcomes import Accepted, Refused, TryLater
from consumers.status.readiness import assess
from schemas.vocabulary import Reason

AT = datetime(2030, 1, 1, 9, tzinfo=UTC)
ACCEPTED_EVIDENCE, PROBED_EVIDENCE = (
    "it accepted a message at 2030-01-01T09:00:00+00:00",
    ("its probe succeeded at 2030-01-01T09:00:00+00:00; it has accepted no message yet"),
)
CONFIGURED_EVIDENCE = "everything it needs is set; {}; it has accepted no message yet"


@pytest.mark.parametrize(
    ("record", "changes", "readiness", "evidence"),
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
        (
            ProviderRecord(),
            {},
            "configured",
            CONFIGURED_EVIDENCE.format("it is about to be probed"),
        ),
        (
            ProviderRecord(probed_at=AT),
            {"has_probe": False},
            "configured",
            CONFIGURED_EVIDENCE.format("its account cannot be probed"),
        ),
        (ProviderRecord(probed_at=AT), {}, "probed", PROBED_EVIDENCE),
        (ProviderRecord(probed_at=AT, last_success=AT), {}, "live", ACCEPTED_EVIDENCE),
        (ProviderRecord(last_success=AT), {"has_probe": False}, "live", ACCEPTED_EVIDENCE),
        (ProviderRecord(last_success=AT), {"is_simulated": True}, "simulated", ACCEPTED_EVIDENCE),
        (ProviderRecord(), {"is_simulated": True}, "simulated", "it was not called yet"),
    ],
)
def test_the_readiness_and_its_evidence(
    record: ProviderRecord, changes: dict[str, object], readiness: str, evidence: str
) -> None:
    arguments: dict[str, object] = {"is_simulated": False, "has_probe": True}
    arguments |= {"setup_problem": None, "pause_reason": None}
    assessment = assess(record, **(arguments | changes))  # type: ignore[arg-type]
    assert (assessment.readiness, assessment.evidence) == (readiness, evidence)
    assert (assessment.problem is None) == (readiness not in ("setup_needed", "paused", "degraded"))


def test_a_refusal_is_a_valid_answer_and_no_success() -> None:
    health = ProviderHealth()
    health.record_probe("p", "it does not answer", at=AT)
    health.record_outcome("p", Refused(reason=Reason.INVALID_RECIPIENT), at=AT)
    assert (health.get("p").probe_problem, health.get("p").last_success) == (None, None)
    health.record_outcome("p", TryLater(reason=Reason.PROVIDER_ERROR), at=AT)
    assert health.get("p").last_success is None
    health.record_outcome("p", Accepted(), at=AT)
    assert health.get("p").last_success == AT


def test_a_failed_probe_keeps_the_time_of_the_last_success() -> None:
    health = ProviderHealth()
    health.record_probe("p", None, at=AT)
    health.record_probe("p", "it does not answer", at=AT.replace(hour=10))
    assert (health.get("p").probed_at, health.get("p").probe_problem) == (AT, "it does not answer")
