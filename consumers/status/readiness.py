"""Whether messages get out by a provider, and by what it is known.

The reporter asks for each provider of a channel process. From the least to the most that can be
said: `setup_needed` (a person has to act), `configured` (all that it needs is set), `probed` (its
account answered to a question that sends nothing), `live` (it took a message that was meant to
arrive); beside these `simulated`, and `paused` and `degraded` while something is wrong.
"""

from dataclasses import dataclass
from datetime import datetime

from consumers.routing.health import Seen


@dataclass(frozen=True, slots=True)
class Assessment:
    """How ready a provider is.

    Args:
        word: of `audit.records.Readiness`; problem: what is wrong, or None; evidence: how it is
            known.
    """

    word: str
    problem: str | None
    evidence: str


def judged(
    seen: Seen, *, is_simulated: bool, probes: bool, missing: str | None, resting: str | None
) -> Assessment:
    """What is known of a provider.

    Args:
        probes: whether its probe proves its account.
        missing: what a person has to put right; resting: why it is left alone.
    """
    if missing is not None:
        return Assessment("setup_needed", missing, missing)
    if resting is not None:
        return Assessment("paused", resting, resting)
    if seen.problem is not None:
        return Assessment("degraded", seen.problem, f"its probe failed: {seen.problem}")
    return _of_what_works(seen, is_simulated=is_simulated, probes=probes)


def _of_what_works(seen: Seen, *, is_simulated: bool, probes: bool) -> Assessment:
    took = _since("it took a message", seen.last_success)
    answered = _since("its probe succeeded", seen.probed_at) if probes else None
    if is_simulated:
        return Assessment("simulated", None, took or answered or "it was not asked yet")
    if took is not None:
        return Assessment("live", None, took)
    if answered is not None:
        return Assessment("probed", None, f"{answered}; it took no message yet")
    why = "it is about to be probed" if probes else "its account cannot be probed"
    return Assessment(
        "configured", None, f"all that it needs is set; {why}; it took no message yet"
    )


def _since(what: str, at: datetime | None) -> str | None:
    return None if at is None else f"{what} at {at.isoformat(timespec='seconds')}"
