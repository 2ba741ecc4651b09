# SPDX-License-Identifier: GPL-2.0-only
"""The one exception a user is meant to see."""


class KdeltaError(Exception):
    """Bad input or a failed step that the user can mend.

    The message says what was wrong, where, and what to do next; the command
    line prints it alone, without a traceback, and exits non-zero.
    """
