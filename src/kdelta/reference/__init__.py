# SPDX-License-Identifier: GPL-2.0-only
"""Runs that ship with the project: packed small and free of what is private to a machine."""
