"""Which messages a provider accepts, by their mode and their push platform.

`consumers.registry` derives the capabilities of a provider from its type and options. The router
checks them before it chooses a provider for a message.
"""

from dataclasses import dataclass

from schemas.messages import Message, PushMessage
from schemas.tokens import platforms_of
from schemas.vocabulary import Mode, Platform

LIVE = frozenset({Mode.LIVE})
LIVE_AND_TEST = frozenset({Mode.LIVE, Mode.TEST})
NEVER_LIVE = frozenset({Mode.TEST, Mode.SIMULATED})
ANY_MODE = frozenset(Mode)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The messages that one provider accepts.

    Args:
        modes: the modes of messages that it accepts.
        platform: the push platform of the device tokens that it accepts; None for all.
    """

    modes: frozenset[Mode] = LIVE
    platform: Platform | None = None

    def accepts(self, message: Message) -> bool:
        """Whether the provider accepts the message."""
        return message.mode in self.modes and self._reaches(message)

    def _reaches(self, message: Message) -> bool:
        if self.platform is None or not isinstance(message, PushMessage):
            return True
        return self.platform in platforms_of(message)


def explain_no_provider(message: Message) -> str:
    """Return one sentence that says why no provider of the channel accepts a message."""
    match message.mode:
        case Mode.SIMULATED:
            return "the message is simulated, and the channel has no simulated provider"
        case Mode.TEST:
            return "the message is a test, and no provider of the channel has its test mode set up"
        case Mode.LIVE if isinstance(message, PushMessage):
            platforms = ", ".join(sorted(platforms_of(message)))
            return f"no provider of the channel sends to {platforms}"
        case Mode.LIVE:
            return "the channel has no provider but for tests"
