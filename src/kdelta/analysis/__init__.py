# SPDX-License-Identifier: GPL-2.0-only
"""From raw files to delta tables; needs neither a kernel nor a guest.

`kdelta.analysis.run.analyse` is the stage's one entry. Everything it calls is a
pure function, apart from `raw` (reads the raw folder) and `tables` (writes CSV).
"""
