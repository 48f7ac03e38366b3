"""What an installation allows of what the rules would: which countries, how many parts a text.

`comms.platform.settings` reads it for each channel; the producer and the consumers hand it to the
rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import phonenumbers

from schemas.vocabulary import Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A channel's own bounds.

    Args:
        countries: ISO 3166 codes (`US`) of those whose numbers may be reached; None for all.
        parts: that a text message may come to; None for as many as providers take.
    """

    countries: frozenset[str] | None = None
    parts: int | None = None


ANYTHING = Policy()
Policies = Mapping[Channel, Policy]
NO_POLICIES: Policies = MappingProxyType({})


def is_country(code: str) -> bool:
    """Whether it is the ISO 3166 code of a country with telephones, in capitals."""
    return code in phonenumbers.SUPPORTED_REGIONS
