"""The text of a provider, without the private parts."""

import pytest

from comms.platform.masking import mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Account suspended", "Account suspended"),
        ("Unreachable 'to' number +1 (202) 555-0142, 21211", "Unreachable 'to' number …, 21211"),
        ("Invalid `to` field: person@example.com", "Invalid `to` field: …"),
        ("to=%2B12025550142&from=person%40example.com", "…"),
        ("From 12025550142", "From …"),
        ('"ExponentPushToken[xxxxxxxxxx]" is not registered', "… is not registered"),
        ("token dGhpcyBpcyBh-ZGV2aWNl-dG9rZW4:1 is gone", "token … is gone"),
        ("https://push.example.com/v2/abc1 answers 410", "… answers 410"),
        ("\"Your code: 12\" can't be sent, it isn't ours", "… can't be sent, it isn't ours"),
    ],
)
def test_private_parts_are_masked(text: str, masked: str) -> None:
    assert mask(text) == masked
