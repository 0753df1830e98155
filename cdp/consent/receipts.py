"""How a request is told, and the receipt of an erasure: what was done, where and when. Pure.

Neither holds personal data, so both are kept when the person is forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cdp.clock import SECOND_US, isoformat
from cdp.consent.deadlines import alarms_us, due_at_us
from cdp.consent.destinations_told import DONE
from cdp.consent.requests import ENDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdp.consent.destinations_told import Job
    from cdp.consent.requests import Request

Json = dict[str, Any]

# When a stage was done is when the next one began.
_STAGES: Final = (
    ("t_sealed", "sealed"),
    ("t_shredded", "purging"),
    ("t_purged", "verifying"),
    ("t_verified", "downstream"),
)


def told(request: Request, jobs: Sequence[Job], exports: Sequence[str] = ()) -> Json:
    """A request as everybody outside sees it."""
    received_us = request.times["received"]
    due = due_at_us(request.regulation, received_us, request.kind)
    return {
        "id": request.name,
        "kind": request.kind,
        "state": request.state,
        "external_id": request.external_id,
        "received_at": isoformat(received_us),
        "completed_at": isoformat(_ended_us(request)) if request.state in ENDED else None,
        "regulation": request.regulation,
        "due_at": isoformat(due),
        "alarms_at": [
            isoformat(at) for at in alarms_us(request.regulation, received_us, request.kind)
        ],
        "channel": request.channel,
        "hold": request.hold,
        "reason": request.reason,
        "by": dict(request.by),
        "suppress": request.suppress,
        "downstream": request.downstream,
        "stages": {stage: isoformat(at_us) for stage, at_us in request.times.items()},
        "exports": list(exports),
        "stores": stores_form(request),
        "destinations": [job_form(job) for job in jobs],
        "problems": list(request.problems),
    }


def receipt(request: Request, jobs: Sequence[Job]) -> Json:
    """What was done, as proof."""
    times = {"t_request": request.times["received"]}
    times |= {name: request.times[at] for name, at in _STAGES if at in request.times}
    if request.state in ENDED:
        times["t_completed"] = _ended_us(request)
    return {
        "id": request.name,
        "kind": request.kind,
        "state": request.state,
        "external_id": request.external_id,
        "regulation": request.regulation,
        "times": {name: isoformat(at_us) for name, at_us in times.items()},
        "durations_s": durations_s(request),
        "stores": stores_form(request),
        "scan": dict(request.scan),
        "purged_again": request.rounds,
        "destinations": [job_form(job) for job in jobs],
        "problems": list(request.problems),
    }


def durations_s(request: Request) -> dict[str, float]:
    """How long each stage took, from when the one before it was done; the first since approval."""
    before = request.times.get("approved", request.times["received"])
    found: dict[str, float] = {}
    ends = [(name[2:], request.times.get(state)) for name, state in _STAGES]
    if request.state in ENDED:
        ends.append(("completed", _ended_us(request)))
    for name, at_us in ends:
        if at_us is not None:
            found[name] = max(0, at_us - before) / SECOND_US
            before = at_us
    return found


def told_after_s(request: Request, jobs: Sequence[Job]) -> dict[str, float]:
    """How long after the seal each destination had confirmed that it forgot the person."""
    sealed_us = request.times.get("sealed", request.times["received"])
    return {
        job.destination: max(0, job.times["confirmed"] - sealed_us) / SECOND_US
        for job in jobs
        if job.state == "confirmed"
    }


def stores_form(request: Request) -> list[Json]:
    """Each store: what was erased in it, and what was left when somebody looked."""
    names = sorted(request.counts.keys() | request.checks.keys())
    return [
        {
            "store": name,
            "state": _store_state(request, name),
            "erased": request.counts.get(name, 0),
            "left": request.checks.get(name),
        }
        for name in names
    ]


def job_form(job: Job) -> Json:
    """One destination's part."""
    return {
        "destination": job.destination,
        "state": job.state,
        "times": {state: isoformat(at_us) for state, at_us in job.times.items()},
        "attempts": job.attempts,
        "remote_id": job.remote_id or None,
        "evidence_sha256": job.evidence_sha256 or None,
        "instructions": job.instructions or None,
        "attested_by": job.by or None,
        "error": job.error or None,
        "done": job.state in DONE,
    }


def _store_state(request: Request, name: str) -> str:
    if "downstream" not in request.times:
        return "running"
    return "failed" if request.checks.get(name) else "erased"


def _ended_us(request: Request) -> int:
    return request.times.get(request.state, request.times["received"])
