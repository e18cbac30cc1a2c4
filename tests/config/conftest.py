from __future__ import annotations

from pathlib import Path

import pytest

import config
from config import ConfigProblem, Infrastructure

DRIVERS = frozenset({"simulated", "libvirt"})


class Bench:
    """Loads texts and files under a folder of its own, with fixed drivers and variables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: dict[str, str] = {}

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def load(self, name: str) -> Infrastructure:
        return config.load(self.folder / name, drivers=DRIVERS, environment=self.environment)

    def loads(self, text: str) -> Infrastructure:
        name = str(self.folder / "infra.toml")
        return config.loads(text, name, drivers=DRIVERS, environment=self.environment)

    def problems(self, text: str) -> tuple[ConfigProblem, ...]:
        with pytest.raises(config.ConfigError) as caught:
            self.loads(text)
        return caught.value.problems

    def problems_of(self, name: str) -> tuple[ConfigProblem, ...]:
        with pytest.raises(config.ConfigError) as caught:
            self.load(name)
        return caught.value.problems


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)
