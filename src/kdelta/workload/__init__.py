# SPDX-License-Identifier: GPL-2.0-only
"""What is measured: programs as the folders of workloads/ describe them."""
