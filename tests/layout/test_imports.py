"""What import-linter cannot say: otp (without otp/distribution) needs the standard library alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OTP = sorted(
    path
    for path in (ROOT / "otp").rglob("*.py")
    if "distribution" not in path.relative_to(ROOT).parts
)
PRODUCT = sorted(
    path
    for name in (
        "otp",
        "drivers",
        "config",
        "rpc",
        "automation",
        "orchestration",
        "metrics",
        "grafana",
    )
    for path in (ROOT / name).rglob("*.py")
)
# `otp.testing` carries the pytest fixture, and is only imported by tests.
MAY_USE_PYTEST = {ROOT / "otp" / "testing.py"} | set((ROOT / "otp" / "testing").glob("*.py"))


OURS = frozenset(
    {"otp", "drivers", "config", "rpc", "automation", "orchestration", "metrics", "grafana"}
)


def imported(tree: ast.AST) -> set[str]:
    """Top-level names a module imports, relative imports as "."."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." if node.level else (node.module or "").split(".")[0])
    return names


def foreign(path: Path, source: str) -> set[str]:
    allowed = sys.stdlib_module_names | {"otp"} | ({"pytest"} if path in MAY_USE_PYTEST else set())
    return imported(ast.parse(source)) - allowed


@pytest.mark.parametrize("path", OTP, ids=lambda path: str(path.relative_to(ROOT)))
def test_otp_module_imports_the_standard_library_alone(path):
    assert foreign(path, path.read_text()) == set()


def test_foreign_import_inside_a_function_is_found():
    source = "def start():\n    import msgspec\n    from thespian import actors\n"

    assert foreign(OTP[0], source) == {"msgspec", "thespian"}


def test_otp_loads_no_foreign_module_when_it_runs():
    code = (
        "import sys; before = set(sys.modules); import otp; "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )

    # -S: without site-packages, so a hidden dependency cannot be there by chance.
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert set(done.stdout.split()) - sys.stdlib_module_names == {"otp"}


def imported_modules(source: str) -> set[str]:
    """Full names of the modules of ours that a source imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] in OURS}


def beyond_the_client(source: str) -> set[str]:
    """What of ours a source imports that is not the client of orchestration."""
    return {
        name
        for name in imported_modules(source)
        if name != "orchestration" and not name.startswith("orchestration.client")
    }


def test_cli_uses_nothing_of_ours_but_the_client():
    assert beyond_the_client((ROOT / "cli.py").read_text()) == set()


def test_import_of_another_package_by_the_cli_is_found():
    source = "from orchestration.client import Client\ndef plan():\n    import config.loading\n"

    assert beyond_the_client(source) == {"config.loading"}


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_product_module_has_no_relative_import(path):
    assert "." not in imported(ast.parse(path.read_text()))
