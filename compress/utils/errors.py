"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something the user can mend. The message names the cause and the fix; the exit code is 2."""

    exit_code = 2


class NothingFits(UserError):
    """No candidate meets the budget; the message says what to relax. The exit code is 3."""

    exit_code = 3


class GotWorse(UserError):
    """A model got significantly worse than it was, for a CI to notice. The exit code is 4."""

    exit_code = 4


class StorageFailed(UserError):
    """The disk is full, or the store cannot be used: it is not what was being made that failed."""


class SomeFailed(UserError):
    """Some candidates failed; the others are reported all the same. The exit code is 5."""

    exit_code = 5
