# SPDX-License-Identifier: GPL-2.0-only
"""The data dictionary: every column of every CSV file that a run leaves behind.

docs/data-dictionary.md and datapackage.json are generated from it, so that neither can
disagree with the other; the tests hold it to the files that the analysis writes.
"""

from __future__ import annotations

from kdelta.export import dictionary_samples, dictionary_tables

TABLES = {table.path: table for table in (*dictionary_samples.TABLES, *dictionary_tables.TABLES)}
"""Path below a run's folder -> table, in the order of `kdelta.result_files.RESULT_FILES`."""
