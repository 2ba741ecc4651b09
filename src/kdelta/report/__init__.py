# SPDX-License-Identifier: GPL-2.0-only
"""The report stage: analysed tables in, page, paper, plain text and figures out.

It reads the CSV files of one results folder and a :class:`ReportContext`, and needs neither a
kernel nor a guest. ``kdelta.report.run`` holds one function per output.
"""
