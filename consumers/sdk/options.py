"""One provider's table of `comms.toml`, read strictly: every mistake names its key.

A builder of a channel's adapter asks for what it knows by type and calls `done`, which refuses what
nobody asked for: a misspelt option stops the service at start instead of being ignored.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from comms.platform.settings import MissingSecretError, Secret, Settings, SettingsError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Options:
    """Typed reading of a table.

    Args:
        table: what was written; where: the table's name for messages, e.g.
            `email.providers[smtp]`.
    """

    def __init__(self, table: Mapping[str, Any], *, where: str, settings: Settings) -> None:
        self._table, self._where, self._settings = table, where, settings
        self._asked: set[str] = set()
        self._missing: MissingSecretError | None = None

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

    def flag(self, name: str, default: bool) -> bool:
        """True or false.

        Raises:
            SettingsError: anything else.
        """
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "must be true or false")
        return value

    def choice(self, name: str, default: str, *, among: tuple[str, ...]) -> str:
        """One of a few words.

        Raises:
            SettingsError: another word.
        """
        value = self._get(name, default)
        if value not in among:
            raise self.wrong(name, f"must be one of: {', '.join(among)}")
        return str(value)

    def texts(self, name: str) -> Mapping[str, str]:
        """A table of texts by name; an empty one where there is none.

        Raises:
            SettingsError: something else.
        """
        value = self._get(name, {})
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise self.wrong(name, "must be a table of texts")
        return value

    def url(self, name: str, default: str) -> str:
        """Where a provider answers, without a slash at its end.

        Raises:
            SettingsError: no https:// address; http:// is for this machine only.
        """
        value = self.text(name, default).rstrip("/")
        parts = urlsplit(value)
        local = parts.scheme == "http" and parts.hostname in LOOPBACK
        if not parts.hostname or not (parts.scheme == "https" or local):
            raise self.wrong(name, "must begin with https:// (http:// on this machine only)")
        return value

    def secret(self, name: str, default: str | None = None) -> Secret:
        """The secret in the environment variable that option `name` names.

        Where the variable is not set the answer is empty until `done` says so, after every wrong
        value was found: look into a secret only after `done`.

        Args:
            default: the variable's customary name, for a table that names none.

        Raises:
            SettingsError: the option is missing.
        """
        try:
            return self._settings.secret(self.text(name, default), where=f"{self._where}.{name}")
        except MissingSecretError as error:
            self._missing = self._missing or error
            return Secret("")

    def optional_secret(self, name: str, default: str) -> Secret | None:
        """The same for a secret that the provider can do without: None where the table does not
        name a variable and the customary one is not set."""
        if name in self._table or self._settings.environment.get(default):
            return self.secret(name, default)
        self._asked.add(name)
        return None

    def others(self, *names: str) -> None:
        """Options that another reader of the same table asks for: the adapter, or its receipts."""
        self._asked.update(names)

    def done(self) -> None:
        """Everything known was asked for. Call it last, and before looking into a secret.

        Raises:
            SettingsError: the table has an option that nobody reads.
            MissingSecretError: the table is right, and a secret is not set.
        """
        for name in self._table:
            if name not in self._asked:
                known = ", ".join(sorted(self._asked)) or "none"
                raise self.wrong(name, f"no such option; known: {known}")
        if self._missing is not None:
            raise self._missing

    def wrong(self, name: str, problem: str) -> SettingsError:
        """The error for an option whose value is not acceptable, naming its key."""
        return SettingsError(f"{self._where}.{name}", problem)

    def _get(self, name: str, default: object) -> object:
        self._asked.add(name)
        return self._table.get(name, default)
