# SPDX-License-Identifier: GPL-2.0-only
"""A process that does not outlive its parent, however that ends.

`guest/supervise.py`, which is run as a file of its own, cannot import this.
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
# Loaded here, since it is called between a fork and an exec too.
_libc = ctypes.CDLL(None, use_errno=True)


def signalled_with(parent: int, how: signal.Signals) -> bool:
    """Have the kernel send this process a signal when its parent ends (PR_SET_PDEATHSIG).

    Args:
        parent: its process ID, as it was before.
        how: the signal.

    Returns:
        Whether the parent is there still: one that had ended before sends none.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, how, 0, 0, 0)
    return os.getppid() == parent
