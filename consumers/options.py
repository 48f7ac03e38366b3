"""One provider's table of `comms.toml`, read strictly: every mistake names its key.

A builder of a channel's adapter asks for what it knows by type and calls `done`, which refuses what
nobody asked for: a misspelt option stops the service at start instead of being ignored.
"""

from collections.abc import Mapping
from typing import Any

from comms.settings import Secret, Settings, SettingsError


class Options:
    """Typed reading of a table.

    Args:
        table: what was written; where: the table's name for messages, e.g.
            `email.providers[smtp]`.
    """

    def __init__(self, table: Mapping[str, Any], *, where: str, settings: Settings) -> None:
        self._table, self._where, self._settings = table, where, settings
        self._asked: set[str] = set()

    def text(self, name: str, default: str | None = None) -> str:
        """A string; required unless there is a default.

        Raises:
            SettingsError: missing, empty or no string.
        """
        value = self._get(name, default)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(name, "missing" if value is None else "must be a text")
        return value.strip()

    def optional_text(self, name: str) -> str | None:
        """A string, or None where the table has none."""
        self._asked.add(name)
        return self.text(name) if name in self._table else None

    def number(self, name: str, default: float, *, at_least: float = 0) -> float:
        """A number.

        Raises:
            SettingsError: no number, or too small.
        """
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "must be a number")
        if value < at_least:
            raise self.wrong(name, f"must be at least {at_least:g}")
        return float(value)

    def choice(self, name: str, default: str, *, among: tuple[str, ...]) -> str:
        """One of a few words.

        Raises:
            SettingsError: another word.
        """
        value = self._get(name, default)
        if value not in among:
            raise self.wrong(name, f"must be one of: {', '.join(among)}")
        return str(value)

    def secret(self, name: str) -> Secret:
        """The secret in the environment variable that option `name` names.

        Raises:
            SettingsError: the option is missing, or the variable is not set.
        """
        return self._settings.secret(self.text(name), where=f"{self._where}.{name}")

    def done(self) -> None:
        """Everything known was asked for.

        Raises:
            SettingsError: the table has an option that nobody reads.
        """
        for name in self._table:
            if name not in self._asked:
                known = ", ".join(sorted(self._asked)) or "none"
                raise self.wrong(name, f"no such option; known: {known}")

    def wrong(self, name: str, problem: str) -> SettingsError:
        """The error for an option whose value is not acceptable, naming its key."""
        return SettingsError(f"{self._where}.{name}", problem)

    def _get(self, name: str, default: object) -> object:
        self._asked.add(name)
        return self._table.get(name, default)
