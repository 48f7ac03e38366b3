"""Which provider a message goes through: a weighted choice among those of its channel."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from consumers.provider import Provider
from schemas.messages import Message


@dataclass(frozen=True, slots=True)
class Route:
    """A provider and its share of the traffic."""

    provider: Provider[Message]
    weight: int


@dataclass(frozen=True, slots=True)
class Router:
    """Chooses for each attempt.

    Args:
        routes: at least one with a weight above 0.
    """

    routes: Sequence[Route]
    source: random.Random = field(default_factory=random.Random)

    def choose(self) -> Provider[Message]:
        """The provider of the next attempt."""
        if len(self.routes) == 1:
            return self.routes[0].provider
        weights = [route.weight for route in self.routes]
        return self.source.choices(self.routes, weights)[0].provider
