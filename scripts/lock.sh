#!/usr/bin/env bash
# Resolves the dependencies of pyproject.toml for every Python from 3.11 on, with hashes and
# without naming a registry.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
common=(--quiet --universal --python-version 3.11 --generate-hashes --no-header)
uv pip compile "${common[@]}" "$@" --extra dev pyproject.toml -o requirements/lock.txt
echo "libvirt-python>=9.0" | uv pip compile "${common[@]}" "$@" - -o requirements/lock-libvirt.txt
