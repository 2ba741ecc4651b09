# SPDX-License-Identifier: GPL-2.0-only
"""kdelta: is a kernel patch faster, by how much, under which conditions, how sure are we."""

__version__ = "0.1.0"
