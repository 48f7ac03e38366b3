"""How ready a provider is, from what is known of it."""

from datetime import UTC, datetime

import pytest

from consumers.routing.health import ProviderHealth, Seen
from consumers.sdk.outcomes import Accepted, Refused, TryLater
from consumers.status.readiness import judged
from schemas.vocabulary import Reason

AT = datetime(2030, 1, 1, 9, tzinfo=UTC)
TOOK, PROBED = (
    "it took a message at 2030-01-01T09:00:00+00:00",
    ("its probe succeeded at 2030-01-01T09:00:00+00:00; it took no message yet"),
)
NOT_YET = "all that it needs is set; {}; it took no message yet"


@pytest.mark.parametrize(
    ("seen", "known", "word", "evidence"),
    [
        (Seen(), {"missing": "KEY: not set"}, "setup_needed", "KEY: not set"),
        (Seen(last_success=AT), {"resting": "left alone"}, "paused", "left alone"),
        (Seen(last_success=AT, problem="no"), {}, "degraded", "its probe failed: no"),
        (Seen(), {}, "configured", NOT_YET.format("it is about to be probed")),
        (
            Seen(probed_at=AT),
            {"probes": False},
            "configured",
            NOT_YET.format("its account cannot be probed"),
        ),
        (Seen(probed_at=AT), {}, "probed", PROBED),
        (Seen(probed_at=AT, last_success=AT), {}, "live", TOOK),
        (Seen(last_success=AT), {"probes": False}, "live", TOOK),
        (Seen(last_success=AT), {"is_simulated": True}, "simulated", TOOK),
        (Seen(), {"is_simulated": True}, "simulated", "it was not asked yet"),
    ],
)
def test_the_most_that_can_be_said(
    seen: Seen, known: dict[str, object], word: str, evidence: str
) -> None:
    plain: dict[str, object] = {"is_simulated": False, "probes": True}
    plain |= {"missing": None, "resting": None}
    verdict = judged(seen, **(plain | known))  # type: ignore[arg-type]
    assert (verdict.word, verdict.evidence) == (word, evidence)
    assert (verdict.problem is None) == (word not in ("setup_needed", "paused", "degraded"))


def test_a_refusal_is_a_good_answer_and_no_success() -> None:
    health = ProviderHealth()
    health.probed("p", "it does not answer", at=AT)
    health.observe("p", Refused(reason=Reason.INVALID_RECIPIENT), at=AT)
    assert (health.of("p").problem, health.of("p").last_success) == (None, None)
    health.observe("p", TryLater(reason=Reason.PROVIDER_ERROR), at=AT)
    assert health.of("p").last_success is None
    health.observe("p", Accepted(), at=AT)
    assert health.of("p").last_success == AT


def test_a_probe_that_fails_takes_nothing_from_what_was_known() -> None:
    health = ProviderHealth()
    health.probed("p", None, at=AT)
    health.probed("p", "it does not answer", at=AT.replace(hour=10))
    assert (health.of("p").probed_at, health.of("p").problem) == (AT, "it does not answer")
