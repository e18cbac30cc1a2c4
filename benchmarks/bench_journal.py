"""The journal alone: durable accepts a second, in bulk and singly; whole lives of units; rebuilding from it.

    python benchmarks/bench_journal.py [folder]        one JSON object on stdout

The folder must be on the disk that is to be measured (default: a temporary one under the current folder).
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from orchestration.journal.contract import Changes
from orchestration.journal.sqlite import SqliteJournal
from orchestration.lane import QueuedUnit
from orchestration.records import CommandSpec, UnitSpec

BULK = 50_000
BATCH = 5_000
LIVES = 20_000
OPEN = 100_000
SINGLY_S = 2.0


def spec(n):
    return UnitSpec(
        resource=f"eu/a/rack-1/vm-{n % 500}",
        commands=(CommandSpec(verb="set", params={"n": n}),),
    )


async def accept(journal, specs):
    return await journal.accept(specs, on_demand=(), revision=1, at_utc=time.time())


async def bulk(journal):
    specs = [spec(n) for n in range(BULK)]
    began = time.perf_counter()
    for start in range(0, BULK, BATCH):
        await accept(journal, specs[start : start + BATCH])
    return BULK / (time.perf_counter() - began)


async def singly(journal, clients):
    count, stop = 0, time.perf_counter() + SINGLY_S

    async def client():
        nonlocal count
        while time.perf_counter() < stop:
            await accept(journal, (spec(count),))
            count += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    return count / SINGLY_S


async def lives(journal):
    """Three transitions each, in batches as a pod's frames bring them."""
    began, cpu = time.perf_counter(), time.process_time()
    for start in range(1, LIVES + 1, 50):
        done = asyncio.get_running_loop().create_future()
        for kinds in (("dispatched",), ("executing", "succeeded")):
            changes = Changes()
            for seq in range(start, start + 50):
                row = (seq, kinds[-1], 1, 1, 0, "[1,1,1,1]", "", "", time.time(), None)
                changes.units[seq] = row
                for kind in kinds:
                    name, path = journal.unit_id(seq), "eu/a/rack-1/vm-1"
                    event = (time.time(), f"unit.{kind}", name, path, "[1,1,1,1]", '{"attempt":1}')
                    changes.events.append(event)
            last = kinds[0] == "executing"
            journal.record(changes, (lambda done=done: done.set_result(None)) if last else None)
        await done
    took = time.perf_counter() - began
    return LIVES / took, (time.process_time() - cpu) / LIVES * 1e6


def rebuild(journal):
    began = time.perf_counter()
    units = [
        QueuedUnit.restored(journal.unit_id(known.seq), known) for known in journal.open_units()
    ]
    return len(units), time.perf_counter() - began


async def main(folder):
    sys.setswitchinterval(0.0005)  # as the node does
    journal = SqliteJournal(Path(folder) / "journal.db")
    journal.open(lambda _: None, lambda _: None)
    await journal.save_infrastructure(b"{}", expected=0, changes=Changes(), at_utc=1.0)
    figures = {"load_1min": os.getloadavg()[0], "bulk_accepts_per_s": round(await bulk(journal))}
    for clients in (1, 50):
        figures[f"single_accepts_per_s_{clients}_clients"] = round(await singly(journal, clients))
    per_s, cpu_us = await lives(journal)
    figures |= {"lives_per_s": round(per_s), "cpu_us_per_life": round(cpu_us, 1)}
    missing = OPEN - sum(journal.counts().values()) + LIVES
    for _ in range(0, max(0, missing), BATCH):
        await accept(journal, [spec(n) for n in range(BATCH)])
    figures["rebuilt_units"], took = rebuild(journal)
    figures["rebuild_s"] = round(took, 2)
    await journal.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as made:
            asyncio.run(main(made))
