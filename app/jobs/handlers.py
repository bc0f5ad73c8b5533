"""Which kind of job calls which use case."""

from collections.abc import Mapping
from typing import Final

from app.domain.job import JobKind
from app.ports import Handler
from app.use_cases.run import run_job
from app.use_cases.statistics import run_account_statistics
from app.use_cases.timeline import run_timeline_posts

HANDLERS: Final[Mapping[str, Handler]] = {
    JobKind.SYNCHRONIZE: run_job,
    JobKind.ACCOUNT_STATISTICS: run_account_statistics,
    JobKind.TIMELINE_POSTS: run_timeline_posts,
}
