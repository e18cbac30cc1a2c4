"""Asks a real BEAM: writes scenarios as Erlang terms, runs one `erl` over them, reads what it observed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["ask_beam", "erlang_text", "plain"]

HERE = Path(__file__).parent
START_S = 120.0
EACH_S = 1.0


def ask_beam(module: str, scenarios: Sequence[object], folder: Path) -> list[Any]:
    """Run `scenarios` through `module:main/2` on a BEAM with one scheduler; one answer each."""
    sources = [str(HERE / f"{name}.erl") for name in ("beam_terms", module)]
    subprocess.run(["erlc", "-Wall", "-o", str(folder), *sources], check=True)
    asked, answered = folder / f"{module}.terms", folder / f"{module}.json"
    asked.write_text("".join(f"{erlang_text(scenario)}.\n" for scenario in scenarios))
    run = f'{module}:main("{asked}", "{answered}"), halt().'
    command = ["erl", "+S", "1:1", "-noshell", "-boot", "start_clean", "-pa", str(folder)]
    subprocess.run([*command, "-eval", run], check=True, timeout=START_S + EACH_S * len(scenarios))
    return [json.loads(line) for line in answered.read_text().splitlines()]


def erlang_text(term: object) -> str:
    """Write a term: strings are atoms."""
    if isinstance(term, bool):
        return str(term).lower()
    if isinstance(term, str):
        return f"'{term}'"
    if isinstance(term, tuple):
        return "{" + ",".join(map(erlang_text, term)) + "}"
    if isinstance(term, list):
        return "[" + ",".join(map(erlang_text, term)) + "]"
    assert isinstance(term, int)
    return str(term)


def plain(term: object) -> Any:
    """Turn a term into what its JSON would be read as."""
    if isinstance(term, tuple | list):
        return [plain(item) for item in term]
    return term
