# SPDX-License-Identifier: GPL-2.0-only
"""The kernel tests import the inputs that lie beside them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
