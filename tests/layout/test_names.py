"""Our top-level names are plain words: nobody else's installed distribution may claim them."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def our_names() -> frozenset[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    return frozenset(name.strip("/").removesuffix(".py") for name in included)


def claimed_names(distribution: Distribution) -> set[str]:
    stated = (distribution.read_text("top_level.txt") or "").split()
    files = (path.parts[0] for path in distribution.files or () if path.suffix in {".py", ".so"})
    return {*stated, *(name.removesuffix(".py").split(".")[0] for name in files)}


def foreign_claims(installed: Iterable[Distribution]) -> set[tuple[str, str]]:
    return {
        (distribution.metadata["Name"], name)
        for distribution in installed
        if distribution.metadata["Name"] != "cloudctl"
        for name in claimed_names(distribution) & our_names()
    }


def test_no_other_distribution_claims_one_of_our_names():
    assert foreign_claims(distributions()) == set()


def test_no_standard_library_module_has_one_of_our_names():
    assert our_names() & sys.stdlib_module_names == set()


@pytest.mark.parametrize("file", ["config/__init__.py", "cli.py"])
def test_claim_of_another_distribution_is_found(tmp_path, file):
    info = tmp_path / "rival-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"{file},,\n")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()  # Python 3.12 lists only files that are there

    claims = foreign_claims(distributions(path=[str(tmp_path)]))

    assert claims == {("rival", file.split("/")[0].removesuffix(".py"))}


def test_every_package_of_the_wheel_exists_here():
    present = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"cli"}

    assert our_names() <= present
