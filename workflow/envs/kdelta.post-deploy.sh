#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
# Snakemake runs this in the new environment, from the folder that it was started in.
set -euo pipefail

python -m pip install --no-deps --require-hashes --requirement requirements.lock
python -m pip install --no-deps --no-build-isolation --editable .
