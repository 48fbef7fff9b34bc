"""Exception for errors that a user can fix; the command line prints it as one line and exits with code 2."""


class UserError(ValueError):
    """Error that a user can fix; the message names the item, its value, and the remedy."""


def choices(names) -> str:
    """Format the available names, for the end of an error message."""
    return ", ".join(sorted(map(str, names))) or "(none)"
