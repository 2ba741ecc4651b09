# SPDX-License-Identifier: GPL-2.0-only
"""Booting guests: acceleration probe, virtme-ng launch, and the driver that runs inside."""
