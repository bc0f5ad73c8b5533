"""Starting synch jobs and following them to their end."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from app.demo.screen import MappingRow, Screen
from app.demo.service import Company
from app.demo.trouble import DemoFailed

LOOK_EVERY_SECONDS = 0.15
PATIENCE_SECONDS = 180
RUNNING = ("queued", "running")

Job = Mapping[str, Any]


def synchronize(
    screen: Screen, company: Company, mode: str, mappings: Sequence[str], *, create_uncoupled: bool
) -> dict[str, Job]:
    """Synchronizes mappings in the order of their dependencies and waits; returns the ended job of each.

    Raises DemoFailed when a job as a whole failed.
    """
    body = {"mode": mode, "mappings": list(mappings), "create_uncoupled": create_uncoupled}
    parent = company.post("synchronize", body)
    jobs = follow(screen, company, parent["children"])
    for job in jobs.values():
        if job["status"] not in ("succeeded", "partial"):
            reason = (job["error"] or {}).get("message") or job["message"]
            raise DemoFailed(f"The synch job of {job['mapping']} ended as {job['status']}: {reason}")
    return jobs


def follow(screen: Screen, company: Company, ids: Sequence[str]) -> dict[str, Job]:
    """Shows how far the jobs came until all have ended; by mapping."""
    jobs: dict[str, Job] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    names = [company.get(f"synch-jobs/{job_id}")["mapping"] for job_id in ids]
    with screen.bars(names) as bars:
        while len(jobs) < len(ids):
            if time.monotonic() > deadline:
                left = ", ".join(name for name in names if name not in jobs)
                raise DemoFailed(f"The synch jobs of {left} did not end within {PATIENCE_SECONDS} seconds.")
            for name, job_id in zip(names, ids, strict=True):
                if name in jobs:
                    continue
                job = company.get(f"synch-jobs/{job_id}")
                ended = job["status"] not in RUNNING
                bars.show(name, job["total"], job["expected"], job["status"], ended=ended)
                if ended:
                    jobs[name] = job
            time.sleep(LOOK_EVERY_SECONDS)
    return jobs


def table_row(company: Company, job: Job) -> MappingRow:
    """What became of a mapping, as a line of the closing table."""
    return MappingRow(
        mapping=job["mapping"],
        coupled=len(company.items("couplings", mapping=job["mapping"])),
        created=job["inserted"],
        modified=job["modified"],
        unmodified=job["unmodified"],
        skipped=job["skipped"],
        failed=job["failed"],
        seconds=(_moment(job["finished_at"]) - _moment(job["started_at"])).total_seconds(),
    )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
