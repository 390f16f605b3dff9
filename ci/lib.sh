# Sourced by every step in ci/: where we are, which Python we use, how we speak.
#
#   IIP_PYTHON=/path/to/python   use this interpreter with what it has installed, and install nothing
#   PYTHON=/path/to/python       make .venv from this interpreter; otherwise the newest supported one found
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
STEP=${STEP:-ci/$(basename "$0")}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

say() { printf '%s: %s\n' "$STEP" "$*"; }
die() { printf '%s: %s\n' "$STEP" "$*" >&2; exit 1; }

# The interpreter itself: a version manager's shim answers only in some directories and cannot be preloaded into.
real_python() {
    "$1" -c 'import sys
if not (3, 10) <= sys.version_info[:2]: sys.exit(1)
print(getattr(sys, "_base_executable", sys.executable) if len(sys.argv) > 1 else sys.executable)' \
        ${2:+"$2"} 2>/dev/null
}

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        real_python "$PYTHON" || die "PYTHON=$PYTHON is not a Python of version 3.10 or newer"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python3.10 /usr/bin/python3 python; do
        real_python "$candidate" && return
    done
    die "no Python of version 3.10 or newer found; install one or set PYTHON"
}

# Sets PY, the interpreter of this step, with everything in the extra `dev` installed.
use_python() {
    if [ -n "${IIP_PYTHON:-}" ]; then
        PY=$(real_python "$IIP_PYTHON") || die "IIP_PYTHON=$IIP_PYTHON is not a Python of version 3.10 or newer"
    else
        [ "$STEP" = ci/deps ] || STEP=ci/deps "$ROOT/ci/deps"
        PY=$ROOT/.venv/bin/python
    fi
    PATH=$(dirname "$PY"):$PATH
}

# The driver for DPDK is built and tested where its development files are, unless IIP_DPDK says otherwise.
with_dpdk() {
    if [ -z "${IIP_DPDK+set}" ] && pkg-config --exists libdpdk 2>/dev/null; then export IIP_DPDK=1; fi
}

# What the compiler warns about is an error from here on.
strict() { export IIP_CFLAGS="-Werror ${IIP_CFLAGS:-}"; }

# make_venv DIR: an empty virtual environment, without the caller's packages
make_venv() {
    local base
    if [ -n "${IIP_PYTHON:-}" ]; then base=$(real_python "$IIP_PYTHON" base); else base=$(find_python); fi
    rm -rf "$1"
    "$base" -m venv "$1" || die "cannot make a virtual environment with $base; on Debian: apt-get install python3-venv"
}

# copy_source DIR: the files git knows or would add, and nothing that was built; all files where there is no git
copy_source() {
    mkdir -p "$1"
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files -z -co --exclude-standard | while IFS= read -r -d '' name; do
            if [ -e "$name" ]; then printf '%s\0' "$name"; fi
        done | tar -c --null -T - | tar -x -C "$1"
    else
        tar -c --exclude=./build --exclude=./.venv --exclude='*.so' . | tar -x -C "$1"
    fi
}

# A directory of this step's own below build/, removed at the end
scratch() {
    mkdir -p "$ROOT/build"
    SCRATCH=$(mktemp -d "$ROOT/build/$(basename "$STEP").XXXXXX")
    trap 'rm -rf "$SCRATCH"' EXIT
}
