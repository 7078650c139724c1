"""The two ways to say no to the person at the terminal: one message that names what is wrong and what to type
next.

A process of ours that refuses to start exits with ``EXIT_REFUSED``, so that its supervisor knows that starting
it again at once would change nothing; a command that refuses exits with ``EXIT_NOT_DONE``.
"""

EXIT_NOT_DONE = 1
EXIT_REFUSED = 78
"""EX_CONFIG of sysexits.h."""


class StartRefused(Exception):
    """Trivet cannot start as it was told to; nothing was started. The message is shown as it is, without a
    traceback.
    """


class CommandRefused(Exception):
    """A command is not to be carried out in the store's present state; nothing was changed. The message is
    shown as `StartRefused`'s.
    """
