"""The limits of an installation: the countries that it reaches, and the segments of a text.

`comms.platform.settings` reads a `Policy` for each channel. The producer and the consumers pass it
to the rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import phonenumbers

from schemas.vocabulary import Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The limits that an installation sets for one channel, beyond the rules.

    Args:
        countries: ISO 3166 codes (`US`) of the countries whose numbers may be reached; None for
            all.
        parts: the maximum number of segments of a text message; None for as many as providers
            accept.
    """

    countries: frozenset[str] | None = None
    parts: int | None = None


ANYTHING = Policy()
"""The policy that adds no limits."""

Policies = Mapping[Channel, Policy]
"""A policy for each channel. A channel without an entry has no limits."""

NO_POLICIES: Policies = MappingProxyType({})


def is_country(code: str) -> bool:
    """Whether `code` is the ISO 3166 code, in capitals, of a country with a numbering plan."""
    return code in phonenumbers.SUPPORTED_REGIONS
