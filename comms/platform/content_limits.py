"""Whom an installation reaches and at what length: `countries` and `parts` of a channel's table.

`comms.platform.settings` reads them once; the content rules hold messages to them, where one is
accepted and again where it is sent. Whoever gets hold of a key cannot run up a bill in a country
that the installation has nothing to do with.
"""

from comms.platform.toml_config import SettingsError, number
from schemas.rules import is_country
from schemas.vocabulary import Channel


def countries(value: object, channel: Channel) -> frozenset[str] | None:
    """The countries whose numbers may be reached; None where the table does not say.

    Raises:
        SettingsError: it is no list of countries, or the channel has no numbers.
    """
    key = f"{channel}.countries"
    if value is None:
        return None
    if channel not in (Channel.SMS, Channel.VOICE):
        raise SettingsError(key, "is for sms and voice alone")
    if not isinstance(value, list) or not value:
        raise SettingsError(key, 'must be a list of countries, such as ["US", "CA"]')
    for code in value:
        if not isinstance(code, str) or not is_country(code):
            raise SettingsError(key, f"{code!r} is no ISO 3166 code of a country, such as GB")
    return frozenset(value)


def parts(value: object, channel: Channel) -> int:
    """How many parts a text may come to; 0 where the table sets no bound.

    Raises:
        SettingsError: it is no number, or the channel has no texts.
    """
    key = f"{channel}.parts"
    found = int(number(value, key, at_least=0))
    if found and channel is not Channel.SMS:
        raise SettingsError(key, "is for sms alone")
    return found
