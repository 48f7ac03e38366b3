"""A provider's words without what may be private in them.

What a provider says of one message is kept in the message's history, for its tenant. Wherever else
its words are shown (readiness, logs), they go through `masked` first: it may quote whom it was to
reach, or what it was to say.
"""

import re

# Numbers, addresses, devices' tokens and endpoints, and whatever stands between quotation marks.
_PRIVATE = re.compile(
    r"""\+?\d[\d\s().-]{4,}\d
      | [^\s@'"<>]+(?:@|%40)[^\s@'"<>]+
      | (?=[\w:/.-]*\d)[\w:/.-]{24,}
      | "[^"]{6,}" | (?<!\w)'[^']{6,}'""",
    re.VERBOSE,
)


def masked(text: str) -> str:
    """The text with an ellipsis in place of each private thing."""
    return _PRIVATE.sub("…", text)
