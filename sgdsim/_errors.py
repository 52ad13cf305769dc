"""The errors that a user can cause: each is one clear sentence, shown without a traceback."""


class SgdsimError(Exception):
    """A problem that the user can act on; the command line prints the message alone.

    Attributes
    ----------
    exit_code
        Status with which the command line ends.
    """

    exit_code = 1


class ScenarioError(SgdsimError):
    """The scenario is wrong: unknown name, unknown key, value out of range."""

    exit_code = 2


class StoreError(SgdsimError):
    """The dataset on disk cannot be created, opened or written."""


class RunInterrupted(SgdsimError):
    """The run was stopped by a signal; what it computed is on disk and can be resumed."""

    exit_code = 130
