#!/usr/bin/env bash
# Makes .venv exactly as requirements/lock.txt says and installs cloudctl into it, editable. Does
# nothing when the lock files and pyproject.toml are those of the last time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=.venv
python=$venv/bin/python
stamp=$venv/.cloudctl-setup
pip() { "$python" -m pip --quiet --disable-pip-version-check --no-input "$@"; }

can_build_libvirt() {
  command -v gcc >/dev/null && command -v pkg-config >/dev/null && pkg-config --exists libvirt
}

make_venv() {
  local base
  base=$(scripts/find_python.sh)
  if ! "$base" -c 'import venv, ensurepip' 2>/dev/null; then
    echo "$base cannot make virtual environments: install Debian's python3-venv" >&2
    echo "  sudo apt-get update && sudo apt-get install --no-install-recommends python3-venv" >&2
    exit 1
  fi
  echo "making $venv with $("$base" --version)"
  "$base" -m venv --clear "$venv"
}

# A file that disappeared or a Python that was removed makes the environment useless.
"$python" -c '' 2>/dev/null || { rm -rf "$venv"; make_venv; }

libvirt=no
can_build_libvirt && libvirt=yes
locks=$(cat requirements/lock.txt requirements/lock-libvirt.txt | sha256sum | cut -c1-16)-libvirt=$libvirt
project=$(sha256sum <pyproject.toml | cut -c1-16)

if [ "$(sed -n 1p "$stamp" 2>/dev/null)" != "$locks" ]; then
  echo "installing what requirements/lock.txt names"
  pip install --use-pep517 --require-hashes -r requirements/lock.txt
  if [ "$libvirt" = yes ]; then
    echo "building libvirt-python"
    pip install --use-pep517 --require-hashes -r requirements/lock-libvirt.txt
  fi
fi
if [ "$(cat "$stamp" 2>/dev/null)" != "$locks"$'\n'"$project" ]; then
  pip install --no-deps --no-build-isolation --editable .
  printf '%s\n%s\n' "$locks" "$project" >"$stamp"
fi
[ "$libvirt" = yes ] || echo "without libvirt-python (no gcc, pkg-config or libvirt-dev): libvirt domains are left out"
