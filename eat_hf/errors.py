"""What a user got wrong, as opposed to what the program got wrong."""


class UserError(ValueError):
    """A mistake in the input, told in one sentence that says what to do about it.

    Python callers see an ordinary ValueError; the command line prints the sentence and exits with status 2.
    """


class InputWarning(UserWarning):
    """Something about the input that the user should know, though the work goes on."""
