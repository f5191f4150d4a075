"""Errors that Recloom raises on purpose; each message says what, expected, found and the next step."""


class RecloomError(Exception):
    """Something the user can mend: a file, a flag, a key, an id. Shown without a traceback."""


class DataError(RecloomError):
    """Raw or prepared data is not what its format promises."""


class PluginError(RecloomError):
    """A plugin breaks the contract: an unknown hook, or a name that another plugin owns."""


class LLMRequestError(RecloomError):
    """A language model could not answer one question; others may be answered. Counted and kept, not fatal."""


class Finished(Exception):
    """No error: the command has done all that was asked of it and ends here, with success."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: the work stops where it is, as on Ctrl-C; a command then ends with status 143."""


def at_least(low: float, **options: float | None) -> None:
    """Raise RecloomError for an option that is below `low` or no number; None passes."""
    for name, value in options.items():
        if value is not None and not value >= low:
            raise RecloomError(f"{name} must be at least {low}; found {value}")
