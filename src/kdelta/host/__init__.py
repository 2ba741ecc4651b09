# SPDX-License-Identifier: GPL-2.0-only
"""The host that measures: facts, settings that are put back, its lock, its CPU time."""
