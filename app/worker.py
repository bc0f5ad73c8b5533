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
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        try:
            loop.add_signal_handler(number, worker.stop)
        except NotImplementedError:  # Windows: its event loop takes none
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(worker.stop))
    try:
        await worker.run()
    finally:
        for number in signals:
            try:
                loop.remove_signal_handler(number)
            except NotImplementedError:
                signal.signal(number, signal.SIG_DFL)
