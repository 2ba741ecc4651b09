#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Install what kdelta needs: system packages with apt, Python packages in .venv.
#
# Usage: setup/install.sh GROUP...
#   GROUP  run (all that `make report` needs) or test (what `make test` needs besides)
# Environment: PYTHON, the interpreter of .venv (default: python3)
#
# Does nothing, in well under a second, when everything is in place.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
venv=.venv
stamp=$venv/.setup-stamp
log=$venv/setup.log

say() { printf 'setup: %s\n' "$*"; }

die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# step WORDS COMMAND...: one line with the command's duration; its output goes to the log.
step() {
    local words=$1 begun=$SECONDS status=0
    shift
    printf 'setup: %s ... ' "$words"
    printf '\n== %s: %s\n' "$words" "$*" >>"$log"
    # 9>&-: a daemon that a package starts must not hold our lock for ever.
    "$@" >>"$log" 2>&1 </dev/null 9>&- || status=$?
    if [ "$status" -ne 0 ]; then
        printf 'failed\n'
        tail -n 20 "$log" >&2
        die "$words: failed (status $status); all of its output: $log"
    fi
    printf '%d s\n' $((SECONDS - begun))
}

# package_lines GROUP...: the groups' package lines for this architecture, the names alone.
package_lines() {
    local group arch
    case $(dpkg --print-architecture 2>/dev/null || printf '%s' "$HOSTTYPE") in
    arm64 | aarch64) arch=arm64 ;;
    *) arch=amd64 ;;
    esac
    for group in "$@"; do
        sed -e 's/#.*//' -e "s/\[$arch\]//" -e '/\[/d' -e 's/[[:space:]]*$//' -e '/^$/d' \
            "setup/packages-$group.txt"
    done
}

installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# missing_lines GROUP...: the lines of which no alternative is installed.
missing_lines() {
    local line name
    package_lines "$@" | while read -r line; do
        for name in ${line//|/ }; do
            installed "$name" && continue 2
        done
        printf '%s\n' "$line"
    done
}

# first_known LINE: the first alternative that apt knows, else the last one, for apt to complain of.
first_known() {
    local name
    for name in ${1//|/ }; do
        if apt-cache show --no-all-versions "$name" >/dev/null 2>&1; then
            break
        fi
    done
    printf '%s\n' "$name"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    else
        sudo env DEBIAN_FRONTEND=noninteractive "$@"
    fi
}

system_packages() {
    local missing names=() line
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        say "not a Debian system: install what these packages hold by hand, if it is not there yet:"
        package_lines "$@" | paste -s -d ' ' | fold -s -w 90 | sed 's/^/setup:   /'
        return
    fi
    missing=$(missing_lines "$@")
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        line=$(paste -s -d ' ' <<<"$missing")
        command -v sudo >/dev/null || die "missing system packages: $line;" \
            "without root or sudo they cannot be installed: ask for them, then run this again"
        sudo -v || die "missing system packages: $line; sudo was refused"
    fi
    # Another apt (unattended upgrades, say) may hold the lock for minutes.
    local apt=(apt-get --quiet --option DPkg::Lock::Timeout=600)
    step "package lists" as_root "${apt[@]}" update
    while read -r line; do
        names+=("$(first_known "$line")")
    done <<<"$missing"
    step "system packages: ${names[*]}" \
        as_root "${apt[@]}" install --yes --no-install-recommends "${names[@]}"
}

require_python() {
    local version
    version=$("$python" -c 'import platform; print(platform.python_version())' 2>/dev/null) ||
        die "$python does not run; install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$python is Python $version, kdelta needs 3.11 or newer; name one: make setup PYTHON=/path/to/python3"
    printf '%s\n' "$version"
}

# Everything that the content of .venv follows from. The path is part of it: the
# environment's scripts hold it, so that a moved checkout needs a new one.
wanted_stamp() {
    { printf '%s\n' "$PWD" "$1" && cat requirements.lock pyproject.toml; } | sha256sum
}

python_environment() {
    local version wanted
    version=$(require_python)
    wanted=$(wanted_stamp "$version")
    if [ -x $venv/bin/kdelta ] && $venv/bin/python -c '' 2>/dev/null &&
        [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    rm -f $stamp
    # A virtual environment of another interpreter or place cannot be mended.
    rm -rf $venv/bin $venv/include $venv/lib $venv/lib64 $venv/share $venv/pyvenv.cfg
    step "$venv with Python $version" "$python" -m venv $venv
    local pip=($venv/bin/python -m pip --disable-pip-version-check --no-input)
    # The lock file has all of them, so that pip need not look for any. Compiling takes a third of
    # the time, and most of what they hold is never imported: Python compiles the rest when it is.
    step "Python packages, as requirements.lock has them" \
        "${pip[@]}" install --no-deps --no-compile --require-hashes --requirement requirements.lock
    step "kdelta itself" "${pip[@]}" install --no-deps --no-build-isolation --editable .
    printf '%s\n' "$wanted" >$stamp
}

[ $# -gt 0 ] || die "usage: setup/install.sh GROUP... (run, test)"
for group in "$@"; do
    [ -f "setup/packages-$group.txt" ] || die "no such group of packages: $group (there are: run, test)"
done
mkdir -p $venv
# Two of us at once (make report in one terminal, make test in another) would spoil .venv.
exec 9>$venv/.setup-lock
flock 9
: >$log
system_packages "$@"
python_environment
