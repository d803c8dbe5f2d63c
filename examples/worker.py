"""A worker without Lambda: jobs from a queue, a few at a time, each with a deadline of its own."""

from __future__ import annotations

import asyncio

from asecretcache import SecretCache, SecretUnavailableError, deadline

SECONDS_FOR_A_JOB = 20.0


async def work(cache: SecretCache, jobs: asyncio.Queue[str], done: list[str]) -> None:
    while not jobs.empty():
        job = jobs.get_nowait()
        try:
            # A read that would take longer raises while there is time to put the job back.
            with deadline(SECONDS_FOR_A_JOB):
                user = await cache.get_secret("prod/db:user")
        except SecretUnavailableError:
            jobs.put_nowait(job)
            await asyncio.sleep(1)
        else:
            done.append(f"{job} as {user}")


async def main() -> list[str]:
    jobs: asyncio.Queue[str] = asyncio.Queue()
    for number in range(20):
        jobs.put_nowait(f"job {number}")
    done: list[str] = []
    async with SecretCache(ttl=900, stale_while_revalidate=300) as cache, asyncio.TaskGroup() as workers:
        for _ in range(4):
            workers.create_task(work(cache, jobs, done))
    return done


if __name__ == "__main__":
    print(len(asyncio.run(main())), "jobs are done")
