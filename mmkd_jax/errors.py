"""Exceptions for errors that a user can fix; the command line prints them as one line and exits with code 2."""

import copy
import reprlib


class UserError(ValueError):
    """Error that a user can fix; the message names the item, its value, and the remedy."""

    def within(self, place: str, hint: str = "") -> "UserError":
        """Return the same error with the place where it occurred before the message, and a hint after it.

        Example:
            >>> UserError("weight is -1").within("term 'soft'")
            UserError("term 'soft': weight is -1")
        """
        error = copy.copy(self)
        error.args = (f"{place}: {self}{hint}",)
        return error


class MissingOutput(UserError):
    """A path names an output that a model does not have.

    Attributes:
        model: name of the model.
        output: name of the missing output.
    """

    def __init__(self, message: str, *, model: str = "", output: str = ""):
        super().__init__(message)
        self.model, self.output = model, output


def choices(names) -> str:
    """Format the available names, for the end of an error message."""
    return ", ".join(sorted(map(str, names))) or "(none)"


def shown(value: object, most: int = 120) -> str:
    r"""Format a name or value from a file for an error message: on one line, and cut if it is long.

    Args:
        value: printable strings of up to `most` characters are unchanged; the `repr` of others is cut.
        most: maximum length.

    Example:
        >>> shown("encoder.weight"), shown("two\nlines"), shown(10**100)
        ('encoder.weight', "'two\\nlines'", '100000000000000000...0000000000000000000')
    """
    if isinstance(value, str) and value.isprintable() and len(value) <= most:
        return value
    return reprlib.repr(value)[:most]
