# SPDX-License-Identifier: GPL-2.0-only
"""Made-up results folders come from the report's tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "report"))
