"""The one exception for what a user can mend; the command line prints it as one line and exits with 2."""


class UserError(ValueError):
    """Names the thing, its value, and what to do."""


def choices(names) -> str:
    """The names that exist, for the end of a message."""
    return ", ".join(sorted(map(str, names))) or "(none)"
