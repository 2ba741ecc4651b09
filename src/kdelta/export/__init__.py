# SPDX-License-Identifier: GPL-2.0-only
"""Results for other tools, and two results folders side by side.

Reads what analysis and provenance have written; needs neither a kernel nor a guest.
"""
