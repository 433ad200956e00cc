"""The one error users see: a line that says what is wrong, where, and what to do."""


class TallyError(Exception):
    """A problem with the input or the machine; the command line prints it on one line and exits with code 2."""
