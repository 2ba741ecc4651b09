# SPDX-License-Identifier: GPL-2.0-only
"""The mail that goes to the list: cover letter and patches, checked before they are sent."""
