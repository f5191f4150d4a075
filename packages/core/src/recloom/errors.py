"""The errors that Recloom raises on purpose; each message says what, expected, found and the next step."""


class RecloomError(Exception):
    """Something the user can mend: a file, a flag, a key, an id. Shown without a traceback."""


class DataError(RecloomError):
    """Raw or prepared data is not what its format promises."""


class PluginError(RecloomError):
    """A plugin breaks the contract: an unknown hook, or a name that another plugin owns."""
