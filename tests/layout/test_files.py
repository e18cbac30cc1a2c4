"""The house rules for files: where they are, how long they are, and what they must not name."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES = 400
# One letter of each name is in brackets, so that this file does not find itself.
MACHINE_PATH = re.compile(r"(?:^|[^A-Za-z0-9_.])/(?:[w]ork|[f]arm|[r]oot)/", re.MULTILINE)
REGISTRY = re.compile(
    r"(?<!emit-)index-ur[l]\b|extra-inde[x]|(?<!emit-)find-link[s]\b|/simpl[e]/"
    r"|pypi\.(?:or[g]|i[o])|pythonhoste[d]|registry\.npmj[s]|(?:deb|security)\.debia[n]\.org"
)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


FILES = tracked()
PYTHON = [path for path in FILES if path.suffix == ".py"]


def explains_length(source: str) -> bool:
    docstring = ast.get_docstring(ast.parse(source)) or ""
    return re.search(r"(?i)\b(long|longer|length|lines)\b", docstring) is not None


def forbidden(text: str) -> list[str]:
    return [found.group() for rule in (MACHINE_PATH, REGISTRY) for found in rule.finditer(text)]


def test_tests_are_no_package():
    assert [path for path in PYTHON if path.name == "__init__.py" and "tests" in path.parts] == []


def test_long_module_says_why_in_its_docstring():
    silent = [
        str(path.relative_to(ROOT))
        for path in PYTHON
        if "tests" not in path.relative_to(ROOT).parts
        and len(path.read_text().splitlines()) > LINES
        and not explains_length(path.read_text())
    ]

    assert silent == []


def test_module_docstring_is_what_explains_length():
    assert explains_length('"""One state machine; long because its table is one."""')
    assert not explains_length('"""A module."""\nlong = 1')


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_names_no_path_of_a_machine_and_no_registry(path):
    try:
        text = path.read_text()
    except UnicodeDecodeError:
        return

    assert forbidden(text) == []


@pytest.mark.parametrize(
    "text",
    ["see /{}/main/x", "cd '/{}/x'"],
)
@pytest.mark.parametrize("folder", ["work", "root", "farm"])
def test_path_of_a_machine_is_found(text, folder):
    assert forbidden(text.format(folder))


@pytest.mark.parametrize(("before", "after"), [("--index-", "url=x"), ("https://py", "pi.org/x")])
def test_registry_is_found(before, after):
    assert forbidden(before + after)


@pytest.mark.parametrize("text", ["POST /v1/work/{id}", "a network/"])
def test_harmless_text_is_let_through(text):
    assert forbidden(text) == []


def test_every_test_file_stands_beside_its_package():
    mirrored = {path.relative_to(ROOT).parts[0] for path in PYTHON} | {
        "layout",
        "system",
        "docs",
        "examples",
    }
    folders = {
        path.relative_to(ROOT / "tests").parts[0] for path in PYTHON if "tests" in path.parts
    }

    assert {name for name in folders if not name.endswith(".py")} - {"cli"} <= mirrored
