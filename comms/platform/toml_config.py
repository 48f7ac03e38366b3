"""The tables of `comms.toml`: cast strictly, every mistake naming its key.

`comms.platform.settings` and `comms.platform.limits` read their parts of the file with these.
"""

from collections.abc import Mapping
from typing import Any


class SettingsError(Exception):
    """A setting is missing or wrong; `key` names it.

    The sentence is one line, fit to be the last a service prints.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key = key


def table(value: object, key: str) -> Mapping[str, Any]:
    """The table at `key`.

    Raises:
        SettingsError: it is none.
    """
    if not isinstance(value, dict):
        raise SettingsError(key, "must be a table")
    return value


def only_known(found: Mapping[str, Any], key: str, known: set[str]) -> None:
    """Refuse a table with a key that nobody knows.

    Raises:
        SettingsError: it has one.
    """
    for name in found:
        if name not in known:
            raise SettingsError(
                f"{key}.{name}", f"no such setting; known: {', '.join(sorted(known))}"
            )


def number(value: object, key: str, *, at_least: float) -> float:
    """The number at `key`, written as one or as text.

    Raises:
        SettingsError: it is none, or too small.
    """
    try:
        found = float(str(value))
    except ValueError:
        raise SettingsError(key, "must be a number") from None
    if not found >= at_least:
        raise SettingsError(key, f"must be at least {at_least:g}")
    return found
