"""Assesses how ready a provider is, and by which evidence.

The reporter asks for each provider of a channel process. From the least to the most that can be
said: `setup_needed` (a person has to act), `configured` (everything it needs is set), `probed` (its
account answered a request that sends nothing), `live` (it accepted a message that was meant to
arrive). Beside these are `simulated`, and `paused` and `degraded` while something is wrong.
"""

from dataclasses import dataclass
from datetime import datetime

from consumers.routing.health import ProviderRecord


@dataclass(frozen=True, slots=True)
class Assessment:
    """How ready a provider is.

    Args:
        readiness: a value of `audit.records.Readiness`.
        problem: what is wrong, or None.
        evidence: how it is known.
    """

    readiness: str
    problem: str | None
    evidence: str


def assess(
    record: ProviderRecord,
    *,
    is_simulated: bool,
    has_probe: bool,
    setup_problem: str | None,
    pause_reason: str | None,
) -> Assessment:
    """Assess a provider.

    Args:
        has_probe: whether its probe proves its account.
        setup_problem: what a person has to set up or repair.
        pause_reason: why it is not called for now.
    """
    if setup_problem is not None:
        return Assessment("setup_needed", setup_problem, setup_problem)
    if pause_reason is not None:
        return Assessment("paused", pause_reason, pause_reason)
    if record.probe_problem is not None:
        problem = record.probe_problem
        return Assessment("degraded", problem, f"its probe failed: {problem}")
    return _assess_working(record, is_simulated=is_simulated, has_probe=has_probe)


def _assess_working(record: ProviderRecord, *, is_simulated: bool, has_probe: bool) -> Assessment:
    """Assess a provider of which no problem is known."""
    accepted = _describe("it accepted a message", record.last_success)
    probed = _describe("its probe succeeded", record.probed_at) if has_probe else None
    if is_simulated:
        return Assessment("simulated", None, accepted or probed or "it was not called yet")
    if accepted is not None:
        return Assessment("live", None, accepted)
    if probed is not None:
        return Assessment("probed", None, f"{probed}; it has accepted no message yet")
    why = "it is about to be probed" if has_probe else "its account cannot be probed"
    evidence = f"everything it needs is set; {why}; it has accepted no message yet"
    return Assessment("configured", None, evidence)


def _describe(what: str, at: datetime | None) -> str | None:
    return None if at is None else f"{what} at {at.isoformat(timespec='seconds')}"
