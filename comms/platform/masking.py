"""Remove private data from the text of a provider.

The history of a message keeps the complete text, for its tenant. Everywhere else (readiness, logs),
the text goes through `mask` first, because a provider may quote the recipient or the content.
"""

import re

# Numbers, addresses, device tokens, endpoints, and text between quotation marks.
_PRIVATE = re.compile(
    r"""\+?\d[\d\s().-]{4,}\d
      | [^\s@'"<>]+(?:@|%40)[^\s@'"<>]+
      | (?=[\w:/.-]*\d)[\w:/.-]{24,}
      | "[^"]{6,}" | (?<!\w)'[^']{6,}'""",
    re.VERBOSE,
)


def mask(text: str) -> str:
    """Return the text with an ellipsis in place of each private part."""
    return _PRIVATE.sub("…", text)
