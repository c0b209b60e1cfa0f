"""The official Python worker: `worker.py poll WORKDIR` serves a queue, `worker.py item WORKDIR` one item.

Everything else comes from the ANTHROPIC_* variables, as it does in a deployment.
"""

import asyncio
import logging
import os
import sys

from anthropic import AsyncAnthropic

# Long enough for the message that wakes an idle session, short enough not to be waited for.
MAX_IDLE_SECONDS = 0.6


async def main() -> None:
    mode, workdir = sys.argv[1:]
    work = AsyncAnthropic().beta.environments.work
    if mode == "item":
        await work.worker(workdir=workdir, max_idle=MAX_IDLE_SECONDS).handle_item()
        return
    await work.worker(
        environment_id=os.environ["ANTHROPIC_ENVIRONMENT_ID"],
        environment_key=os.environ["ANTHROPIC_ENVIRONMENT_KEY"],
        workdir=workdir,
        max_idle=MAX_IDLE_SECONDS,
    ).run()


logging.basicConfig(level=logging.WARNING)
asyncio.run(main())
