# SPDX-License-Identifier: GPL-2.0-only
"""Measuring: schedules, blocks, the host they run on."""
