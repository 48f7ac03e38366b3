"""Which messages a provider may be given: those of its platform, and meant as it means them.

`consumers.sdk.provider_type` says it of each kind of provider, and the router asks before it
chooses.
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
    """What one provider takes.

    Args:
        modes: how a message may be meant; platform: whose device tokens, None for anybody's.
    """

    modes: frozenset[Mode] = LIVE
    platform: Platform | None = None

    def accepts(self, message: Message) -> bool:
        """Whether the message may be given to the provider."""
        return message.mode in self.modes and self._reaches(message)

    def _reaches(self, message: Message) -> bool:
        if self.platform is None or not isinstance(message, PushMessage):
            return True
        return self.platform in platforms_of(message)


def explain_no_provider(message: Message) -> str:
    """Why a message stands there that no provider of its channel takes, in one sentence."""
    match message.mode:
        case Mode.SIMULATED:
            return "the message is simulated, and the channel has no simulated provider"
        case Mode.TEST:
            return "the message is a test, and no provider of the channel has its test mode set up"
        case Mode.LIVE if isinstance(message, PushMessage):
            wanted = ", ".join(sorted(platforms_of(message)))
            return f"no provider of the channel sends to {wanted}"
        case Mode.LIVE:
            return "the channel has no provider but for tests"
