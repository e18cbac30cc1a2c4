"""Measures the otp core beside a real BEAM, asyncio tasks and Pykka: the same work, idiomatic on each side, in one run.

Usage: python -m benchmarks.otp.run [--repeats N] [--scale X] [--rows cast,call] [--sides ours,beam]

Every row on every side is a fresh OS process that repeats the work; the median counts. The machine has to be quiet:
a load by others falsifies all of it, and differently on each side (the BEAM uses every core, we use one).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TIMEOUT_S = 900


@dataclass(frozen=True)
class Row:
    """One kind of work."""

    name: str
    text: str
    number: int
    aim: float  # of ours ÷ BEAM
    smaller_is_better: bool = False

    def aim_met(self, ratio: float) -> bool:
        return ratio <= self.aim if self.smaller_is_better else ratio >= self.aim

    def gain(self, ratio: float) -> float:
        """Turn a ratio into one where more is better."""
        return 1 / ratio if self.smaller_is_better else ratio


ROWS = [
    Row("start", "starts under a dynamic supervisor /s", 100_000, 1.5),
    Row("cast", "casts to one server /s", 1_000_000, 0.5),
    Row("call", "call round trips, one client /s", 200_000, 1.0),
    Row("fan_out", "fan-out to 100,000: a cast and a call each /s", 100_000, 1.0),
    Row("ring", "ring of 1,000, hops /s", 1_000_000, 0.4),
    Row("memory", "bytes per idle gen_server, 1,000,000 of them", 1_000_000, 0.3, True),
    Row("restart", "restarts, kill to new pid seen /s", 10_000, 1.0),
    Row("one_for_all", "one_for_all of 10,000, restarted children /s", 10_000, 0.5),
    Row("remote_cast", "casts to a process on another node /s", 500_000, 0.5),
]
# An asyncio task and its queue take ten times our memory, and the garbage collector's time with it.
ASYNCIO_MOST = 200_000
Side = Callable[[Row, int, int], list[float]]


class Bench:
    """The sides, each a way to run a row: number of operations, repeats, results."""

    def __init__(self, folder: Path, newest: str | None) -> None:
        self.folder = folder
        self.sides: dict[str, Side] = {"ours": lambda *work: self.ours(sys.executable, *work)}
        if newest is not None:
            self.sides["newest"] = lambda *work: self.ours(newest, *work)
        self.sides |= {"beam": self.beam, "asyncio": self.asyncio, "pykka": self.pykka}
        sources = [str(path) for path in HERE.glob("*.erl")]
        subprocess.run(["erlc", "-o", str(folder), *sources], check=True)

    def ours(self, python: str, row: Row, number: int, repeats: int) -> list[float]:
        if row.name != "remote_cast":
            return _python(python, "benchmarks.otp.ours", row.name, number, repeats)
        if python != sys.executable:
            return []  # the link's msgspec is in our own environment only
        return _python(
            python, "benchmarks.otp.node_casts", str(self.folder / "socket"), number, repeats
        )

    def asyncio(self, row: Row, number: int, repeats: int) -> list[float]:
        if row.name in {"restart", "one_for_all", "remote_cast"}:
            return []
        number = min(number, ASYNCIO_MOST) if row.name == "memory" else number
        return _python(sys.executable, "benchmarks.otp.asyncio_rows", row.name, number, repeats)

    def pykka(self, row: Row, number: int, repeats: int) -> list[float]:
        if row.name in {"restart", "one_for_all", "remote_cast"}:
            return []
        return _python(sys.executable, "benchmarks.otp.pykka_rows", row.name, number, repeats)

    def beam(self, row: Row, number: int, repeats: int) -> list[float]:
        if row.name == "remote_cast":
            with _erlang_node(self.folder) as flags:
                return self._erl(row, number, repeats, flags)
        return self._erl(row, number, repeats, ["+P", "2097152"])

    def _erl(self, row: Row, number: int, repeats: int, flags: list[str]) -> list[float]:
        run = f'bench_rows:main(["{row.name}", "{number}", "{repeats}"]).'
        command = ["erl", *flags, "-noshell", "-pa", str(self.folder), "-eval", run]
        return _results(command)


def _python(python: str, module: str, *arguments: object) -> list[float]:
    return _results([python, "-m", module, *map(str, arguments)])


def _results(command: list[str]) -> list[float]:
    environment = os.environ | {"BENCH_PEER": "bench_peer@127.0.0.1"}
    done = subprocess.run(
        command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, timeout=TIMEOUT_S
    )
    results: list[float] = json.loads(done.stdout)
    return results


@contextmanager
def _erlang_node(folder: Path) -> Iterator[list[str]]:
    """Run a second Erlang node with a server named `counter`, on loopback and without epmd."""
    port = _free_port()
    common = ["-start_epmd", "false", "-erl_epmd_port", str(port), "-setcookie", "bench"]
    begin = '{ok, Pid} = bench_counter:start_link(counter), unlink(Pid), io:format("ready~n").'
    peer = subprocess.Popen(
        [
            *("erl", *common, "-noshell", "-name", "bench_peer@127.0.0.1", "-pa", str(folder)),
            *("-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-eval", begin),
        ],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    try:
        assert peer.stdout is not None
        assert peer.stdout.readline() == b"ready\n"
        yield [*common, "-name", "bench_client@127.0.0.1", "-dist_listen", "false"]
    finally:
        peer.kill()
        peer.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def newest_python() -> str | None:
    """Find a CPython newer than this one, on PATH or among pyenv's."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    folders.extend(sorted(pyenv.glob("versions/*/bin")))
    found = {
        (int(match[1]), str(path))
        for folder in folders
        for path in folder.glob("python3.*")
        if (match := re.fullmatch(r"python3\.(\d+)", path.name))
        and int(match[1]) > sys.version_info.minor
    }
    for _, path in sorted(found, reverse=True):
        # pyenv's shims are there for versions that are not chosen, and then fail.
        if (
            subprocess.run(
                [path, "-c", "import asyncio"], check=False, capture_output=True
            ).returncode
            == 0
        ):
            return path
    return None


def version_of(python: str) -> str:
    code = "import platform; print(platform.python_version())"
    return subprocess.run(
        [python, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def show(rows: list[Row], medians: dict[str, dict[str, float]], labels: dict[str, str]) -> None:
    """Print the table, one line per row for scripts, and the geometric mean."""
    sides = [side for side in labels if side in medians]
    print(
        f"\n{'':48}"
        + "".join(f"{labels[side]:>15}" for side in sides)
        + f"{'ours/BEAM':>11}{'aim':>8}"
    )
    for row in rows:
        cells = [medians[side].get(row.name) for side in sides]
        text = "".join(f"{'-' if cell is None else f'{cell:,.0f}':>15}" for cell in cells)
        ratio = _ratio(medians, "ours", row)
        met = (
            ""
            if ratio is None
            else f"{ratio:>11.2f}{'≤' if row.smaller_is_better else '≥':>5}{row.aim:>3}"
        )
        missed = "" if ratio is None or row.aim_met(ratio) else "  MISSED"
        print(f"{row.text:48}{text}{met}{missed}")
    print()
    for side in ("ours", "newest"):
        _show_lines(rows, medians, labels, side)


def _show_lines(
    rows: list[Row], medians: dict[str, dict[str, float]], labels: dict[str, str], side: str
) -> None:
    gains = []
    word = "bench-otp" if side == "ours" else f"bench-otp ({labels.get(side)})"
    for row in rows:
        ratio = _ratio(medians, side, row)
        if ratio is not None:
            gains.append(row.gain(ratio))
            ours, beam = medians[side][row.name], medians["beam"][row.name]
            print(f"{word}: {row.name} ours={ours:.0f} beam={beam:.0f} ratio={ratio:.3f}")
    if gains:
        mean = math.exp(statistics.fmean(map(math.log, gains)))
        print(f"{word}: geometric_mean of {len(gains)} rows, memory inverted ratio={mean:.3f}")


def _ratio(medians: dict[str, dict[str, float]], side: str, row: Row) -> float | None:
    ours = medians.get(side, {}).get(row.name)
    beam = medians.get("beam", {}).get(row.name)
    return None if ours is None or beam is None else ours / beam


def measure(
    bench: Bench, rows: list[Row], sides: list[str], repeats: int, scale: float
) -> dict[str, dict[str, float]]:
    medians: dict[str, dict[str, float]] = {side: {} for side in sides}
    for row in rows:
        for side in sides:
            times = 1 if row.name == "memory" else repeats
            results = bench.sides[side](row, max(1, int(row.number * scale)), times)
            if results:
                medians[side][row.name] = statistics.median(results)
                shown = " ".join(f"{result:,.0f}" for result in results)
                print(f"{row.name:12} {side:8} {shown}", flush=True)
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the work in each row")
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS))
    parser.add_argument("--sides", default="ours,newest,beam,asyncio,pykka")
    options = parser.parse_args()
    if shutil.which("erlc") is None:
        sys.exit("bench-otp compares with Erlang: install erlang-base")
    newest = newest_python()
    labels = {"ours": f"ours {platform.python_version()}", "newest": "", "beam": "BEAM"}
    labels |= {"asyncio": "asyncio", "pykka": "Pykka"}
    if newest is not None:
        labels["newest"] = f"ours {version_of(newest)}"
    print(
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} (should be near 0), {platform.machine()}"
    )
    rows = [row for row in ROWS if row.name in options.rows.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), newest)
        sides = [side for side in options.sides.split(",") if side in bench.sides]
        medians = measure(bench, rows, sides, options.repeats, options.scale)
    show(rows, medians, labels)


if __name__ == "__main__":
    main()
