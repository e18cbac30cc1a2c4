#!/usr/bin/env bash
# What cloudctl uses from Debian beside Python: libvirt (real domains), a compiler for
# libvirt-python, Erlang and ss (tests compare with the one and look at sockets with the other).
#
#   debian_packages.sh missing   prints the packages that are missing, exits 0
#   debian_packages.sh install   root: installs them, without starting a service;
#                                otherwise: says what is missing and which command brings it, exits 0
#   debian_packages.sh require   exits 1 with that message when something is missing
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin:/sbin

missing() {
  local python
  [ -x /usr/sbin/libvirtd ] || echo libvirt-daemon-system
  command -v virsh >/dev/null || echo libvirt-clients
  command -v gcc >/dev/null || echo gcc
  [ -e /usr/include/stdio.h ] || echo libc6-dev
  command -v erl >/dev/null || echo erlang-base
  command -v ss >/dev/null || echo iproute2
  if ! command -v pkg-config >/dev/null; then
    echo pkg-config libvirt-dev
  elif ! pkg-config --exists libvirt; then
    echo libvirt-dev
  fi
  python=$("$here/find_python.sh" 2>/dev/null) || { echo python3-venv python3-dev; return; }
  "$python" -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
  "$python" -c 'import pathlib, sys, sysconfig
sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())' || echo python3-dev
}

# A maintainer script asks this file before it starts a service; 101 means "do not".
forbid_services() {
  [ -e /usr/sbin/policy-rc.d ] && return
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
}

install() {
  echo "installing Debian packages: $*"
  forbid_services
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update
  apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

command_line() {
  echo "sudo apt-get update && sudo apt-get install --no-install-recommends $*"
}

packages=$(missing)
packages=${packages//$'\n'/ }
case "${1:-}" in
  missing) [ -z "$packages" ] || echo "$packages" ;;
  install)
    [ -z "$packages" ] && exit 0
    if ! command -v apt-get >/dev/null; then
      echo "this is no Debian; missing here (Debian's names): $packages" >&2
    elif [ "$(id -u)" = 0 ]; then
      # shellcheck disable=SC2086  # a list of words
      install $packages
    else
      echo "not root, so these Debian packages stay missing: $packages" >&2
      echo "  $(command_line "$packages")" >&2
    fi
    ;;
  require)
    [ -z "$packages" ] && exit 0
    echo "the tests need these Debian packages: $packages" >&2
    echo "  $(command_line "$packages")" >&2
    exit 1
    ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 64 ;;
esac
