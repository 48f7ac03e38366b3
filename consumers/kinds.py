"""The former plug-in surface, kept for one release. Remove this module in 0.3.0.

A plug-in of version 0.1 declares `consumers.kinds.Kind(build=…)`, whose builder reads the
provider's table through `setup.options`: `options.text("from")`, `options.secret("key_env")` and so
on, and `options.done()` at the end. `Kind` still makes a provider type, with `TableReader` as its
options, so that such a builder goes on working. Every use of a name of this module emits a
DeprecationWarning. docs/adding-a-provider.md describes the models that replace it.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict

from comms.platform.clock import Clock
from comms.platform.settings import MissingSecretError, Secret, SettingsError, UnknownSettingError
from consumers.sdk.options import OptionsContext, ProviderOptions, check_url
from consumers.sdk.provider import Provider
from consumers.sdk.provider_type import ProviderContext, ProviderType, live_only
from consumers.sdk.receipts import ReceiptParser
from schemas.vocabulary import Mode, Platform


class TableReader(ProviderOptions):
    """A provider's table without a model; its builder reads one option after the other."""

    model_config = ConfigDict(extra="allow", frozen=False)

    _context: OptionsContext
    _known: set[str]
    _missing: MissingSecretError | None = None

    def model_post_init(self, context: OptionsContext, /) -> None:
        """Keep what is needed to look up secrets and to name keys."""
        self._context = context
        self._known = set()

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text; required unless there is a default."""
        value = self._get(name, default)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(name, "missing" if value is None else "must be a text")
        return value.strip()

    def optional_text(self, name: str) -> str | None:
        """Return a text, or None if the table has none."""
        self._known.add(name)
        return self.text(name) if name in self._table else None

    def number(self, name: str, default: float, *, at_least: float = 0) -> float:
        """Return a number."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "must be a number")
        if value < at_least:
            raise self.wrong(name, f"must be at least {at_least:g}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false."""
        value = self._get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "must be true or false")
        return value

    def choice(self, name: str, default: str, *, among: tuple[str, ...]) -> str:
        """Return one of a few texts."""
        value = self._get(name, default)
        if value not in among:
            raise self.wrong(name, f"must be one of: {', '.join(among)}")
        return str(value)

    def texts(self, name: str) -> Mapping[str, str]:
        """Return a table of texts; an empty one if the option is not there."""
        value = self._get(name, {})
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise self.wrong(name, "must be a table of texts")
        return value

    def url(self, name: str, default: str) -> str:
        """Return an address without a slash at its end."""
        try:
            return check_url(self.text(name, default))
        except ValueError as error:
            raise self.wrong(name, str(error)) from error

    def secret(self, name: str, default: str | None = None) -> Secret:
        """Return a secret. One that is not set is empty until `done` reports it."""
        variable = self.text(name, default)
        value = self._context.environment.get(variable)
        if not value:
            problem = f"not set, and {self._context.key}.{name} needs it"
            self._missing = self._missing or MissingSecretError(variable, problem)
        return Secret(value or "")

    def optional_secret(self, name: str, default: str) -> Secret | None:
        """Return a secret; None if the table names no variable and the customary one is not set."""
        self._known.add(name)
        is_expected = name in self._table or self._context.environment.get(default)
        return self.secret(name, default) if is_expected else None

    def others(self, *names: str) -> None:
        """Declare options that another reader of the same table reads."""
        self._known.update(names)

    def done(self) -> None:
        """Refuse options that were not read, and report a secret that is not set."""
        for name in self._table:
            if name not in self._known:
                known = ", ".join(sorted(self._known)) or "none"
                key = f"{self._context.key}.{name}"
                raise UnknownSettingError(key, f"no such setting; known: {known}")
        if self._missing is not None:
            raise self._missing

    def wrong(self, name: str, problem: str) -> SettingsError:
        """Return the error for an option with a wrong value."""
        return SettingsError(f"{self._context.key}.{name}", problem)

    @property
    def _table(self) -> Mapping[str, Any]:
        return self.model_extra or {}

    def _get(self, name: str, default: object) -> object:
        self._known.add(name)
        return self._table.get(name, default)


Context = ProviderContext[TableReader]


def _kind(
    build: Callable[[Context], Provider[Any]],
    receipts: Callable[[Context, Clock], ReceiptParser] | None = None,
    *,
    confirms: bool = False,
    probes: bool = True,
    knows_repeats: bool = False,
    platform: Platform | None = None,
    modes: Callable[[Context], frozenset[Mode]] = live_only,
) -> ProviderType[TableReader]:
    """Make a provider type from the arguments of `Kind` in version 0.1."""
    return ProviderType(
        options=TableReader,
        build=build,
        receipts=receipts,
        reports_every_message=confirms,
        has_probe=probes,
        has_idempotency_key=knows_repeats,
        platform=platform,
        modes=modes,
    )


_SUCCESSORS = {
    "Kind": (_kind, "consumers.sdk.ProviderType"),
    "Setup": (ProviderContext, "consumers.sdk.ProviderContext"),
}


def __getattr__(name: str) -> Any:
    if name not in _SUCCESSORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value, successor = _SUCCESSORS[name]
    warnings.warn(
        f"consumers.kinds.{name} is now {successor}; the old name goes in 0.3.0",
        DeprecationWarning,
        stacklevel=2,
    )
    return value
