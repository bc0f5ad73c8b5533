"""Door two: runs due jobs until told to stop."""

import asyncio
import signal

from app.jobs.worker import Worker


async def run_worker(worker: Worker) -> None:
    """Runs the worker until SIGTERM or SIGINT: jobs end their page in flight and go back to the queue.

    Inside another process, which has signal handlers of its own, run `worker.run()` as a task and call
    `worker.stop()` when it ends.
    """
    loop = asyncio.get_running_loop()

    def stop(*_: object) -> None:
        loop.call_soon_threadsafe(worker.stop)  # not here: a signal comes in the middle of anything

    # Not the loop's own handlers: on Windows it has none.
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        await worker.run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
