# SPDX-License-Identifier: GPL-2.0-only
"""From kernel source to a bootable image: fetch, patch, configure, build, identity."""
