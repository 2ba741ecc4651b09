# SPDX-License-Identifier: GPL-2.0-only
"""What explains and never times: one module a probe, run inside traced guests."""
