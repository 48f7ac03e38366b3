"""How the simulated provider behaves: its settings, and the recipients with a meaning of their own.

The server asks `Behaviour.decide` once for every request it takes. Any recipient is delivered after
the configured latency; a few, the same on every channel, stand for what can go wrong.
"""

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from comms.platform.toml_config import Finite, Share, Table
from schemas.vocabulary import Channel


class Word(StrEnum):
    """What a recipient stands for, as it is written in addresses and device tokens."""

    DELIVERED = "delivered"
    INVALID = "invalid"
    TEMPORARY = "temporary"
    EXHAUSTED = "exhausted"
    NO_RECEIPT = "no-receipt"
    AMBIGUOUS = "ambiguous"
    SLOW = "slow"
    UNDELIVERED = "undelivered"
    LIMITED = "limited"


_BY_LAST_DIGITS: Mapping[str, Word] = {f"010{n}": word for n, word in enumerate(Word)}
_WORDS: Mapping[str, Word] = {str(word): word for word in Word}
_NUMBER = re.compile(r"\+1202555(01\d\d)")  # a block kept for fiction
_ADDRESS = re.compile(r"([a-z-]+)@simulator\.example\.com", re.IGNORECASE)
_TOKEN = re.compile(r"simulator:([a-z-]+)")

SLOW_SECONDS = 5.0
LIMITED_SECONDS = 2
REFUSALS_BEFORE_ACCEPTING = 2


def word_of(channel: Channel, recipient: str) -> Word:
    """What `recipient` stands for; `delivered` for everybody else."""
    match channel:
        case Channel.SMS | Channel.VOICE:
            found = _NUMBER.fullmatch(recipient)
            word = _BY_LAST_DIGITS.get(found[1]) if found else None
        case Channel.EMAIL:
            found = _ADDRESS.fullmatch(recipient)
            word = _WORDS.get(found[1].lower()) if found else None
        case Channel.PUSH:
            found = _TOKEN.fullmatch(recipient)
            word = _WORDS.get(found[1]) if found else None
    return word or Word.DELIVERED


class Result(StrEnum):
    """What became of a request, as the book of calls keeps it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    LIMITED = "limited"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the provider does with one request.

    Args:
        seconds: until it answers; retry_after: what a 429 tells the caller.
        delivered: what the receipt will say; None where none is sent.
    """

    result: Result
    seconds: float
    retry_after: int | None = None
    delivered: bool | None = None


class Manners(Table):
    """The settings of one channel.

    Attributes:
        latency_ms: the median time until an answer.
        latency_jitter: sigma of the log-normal distribution of this time; 0: always the median.
        error_rate: the share of requests that are answered with 503.
        rate_limit_per_second: requests above it are answered with 429; 0: no limit.
        receipt_delay_ms: the time from the answer to the receipt.
        receipt_fail_rate: the share of receipts that say `failed`.
    """

    latency_ms: Finite = 50.0
    latency_jitter: Finite = 0.0
    error_rate: Share = 0.0
    rate_limit_per_second: Finite = 0.0
    receipt_delay_ms: Finite = 200.0
    receipt_fail_rate: Share = 0.0


class Behaviour:
    """One channel of the provider: its manners, its dice and its rate limit.

    Args:
        seed: of the dice, so that the same requests in the same order meet the same fate.
    """

    def __init__(self, manners: Manners, *, seed: int) -> None:
        self.manners = manners
        self._dice = random.Random(seed)  # noqa: S311 - dice, not secrets
        self._free_at = 0.0

    def decide(self, word: Word, *, call: int, now: float) -> Decision:
        """What to do with the `call`-th request (from 1) for one message.

        Args:
            now: seconds of a monotonic clock.
        """
        latency = self._latency()
        if self._over_limit(now):
            return Decision(result=Result.LIMITED, seconds=0, retry_after=1)
        if self._dice.random() < self.manners.error_rate:
            return Decision(result=Result.UNAVAILABLE, seconds=latency)
        return self._by_word(word, call, latency)

    def _by_word(self, word: Word, call: int, latency: float) -> Decision:
        match _result(word, call):
            case Result.ACCEPTED:
                seconds = SLOW_SECONDS if word is Word.SLOW else latency
                delivered = self._delivered(word)
                return Decision(result=Result.ACCEPTED, seconds=seconds, delivered=delivered)
            case Result.UNANSWERED:
                return Decision(result=Result.UNANSWERED, seconds=math.inf)
            case Result.LIMITED:
                return Decision(result=Result.LIMITED, seconds=latency, retry_after=LIMITED_SECONDS)
            case result:
                return Decision(result=result, seconds=latency)

    def _delivered(self, word: Word) -> bool | None:
        if word is Word.NO_RECEIPT:
            return None
        failed = self._dice.random() < self.manners.receipt_fail_rate
        return not failed and word is not Word.UNDELIVERED

    def _latency(self) -> float:
        median = self.manners.latency_ms / 1000
        if self.manners.latency_jitter == 0:
            return median
        return median * self._dice.lognormvariate(0, self.manners.latency_jitter)

    def _over_limit(self, now: float) -> bool:
        """Whether this request comes too soon; a tenth of a second's worth may come at once."""
        rate = self.manners.rate_limit_per_second
        if rate == 0:
            return False
        earliest = max(self._free_at, now - 0.1)
        if earliest > now:
            return True
        self._free_at = earliest + 1 / rate
        return False


def _result(word: Word, call: int) -> Result:
    match word:
        case Word.INVALID:
            return Result.REFUSED
        case Word.AMBIGUOUS:
            return Result.UNANSWERED
        case Word.LIMITED if call == 1:
            return Result.LIMITED
        case Word.EXHAUSTED:
            return Result.UNAVAILABLE
        case Word.TEMPORARY if call <= REFUSALS_BEFORE_ACCEPTING:
            return Result.UNAVAILABLE
        case _:
            return Result.ACCEPTED
