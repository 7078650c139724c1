"""The one way to say that Trivet cannot start as it was told to.

A refusal is for the person at the terminal: one message that names what is wrong and what to type next. A
process of ours that refuses exits with ``EXIT_REFUSED``, so that its supervisor knows that starting it again
at once would change nothing.
"""

EXIT_REFUSED = 78
"""EX_CONFIG of sysexits.h."""


class StartRefused(Exception):
    """Nothing was started. The message is shown as it is, without a traceback."""
