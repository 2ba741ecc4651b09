#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Makes the patch that adds pipe_bench as a selftest anew, from workloads/pipe_bench/, in every
# series that has it. LINUX is a source of Linux 6.12: two files are read from it.
set -eu
linux=${1:?usage: $0 LINUX}
patches=$(cd "$(dirname "$0")" && pwd)
sources=$patches/../workloads/pipe_bench
name=0002-selftests-pipe-add-pipe_bench-microbenchmark.patch
selftests=tools/testing/selftests
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_COMMITTER_NAME=nobody GIT_COMMITTER_EMAIL=nobody@example.org

mkdir -p "$tree/$selftests"
cp "$linux/MAINTAINERS" "$tree/"
cp "$linux/$selftests/Makefile" "$tree/$selftests/"
git -C "$tree" init --quiet
git -C "$tree" add --all --force
git -C "$tree" commit --quiet --author='nobody <nobody@example.org>' --message=base
# The message, the author and what changes in those two files stay.
git -C "$tree" am --quiet "$patches/pipe-prealloc/linux-6.12/$name"
cp "$sources/pipe_bench.c" "$tree/$selftests/pipe/"
cp "$sources/Makefile.kselftest" "$tree/$selftests/pipe/Makefile"
cp "$sources/gitignore.kselftest" "$tree/$selftests/pipe/.gitignore"
git -C "$tree" commit --quiet --all --amend --no-edit
for series in "$patches"/*/linux-6.12; do
    git -C "$tree" -c core.abbrev=12 format-patch --numbered --start-number=2 --zero-commit \
        --no-signature --output-directory="$series" -1
done
