"""Signature Version 4, against the vectors that Amazon published."""

from datetime import UTC, datetime

import pytest

from comms.platform.settings import Secret
from consumers.vendors import sigv4

NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
KEY = Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
SERVICE = sigv4.Service(name="service", region="us-east-1")


def signed(
    method: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    token: str | None = None,
) -> dict[str, str]:
    credentials = sigv4.Credentials(
        key_id=Secret("AKIDEXAMPLE"), key=KEY, token=Secret(token) if token else None
    )
    return sigv4.signed(
        method,
        "https://example.amazonaws.com/",
        headers=headers or {},
        body=body,
        service=SERVICE,
        credentials=credentials,
        now=NOW,
    )


@pytest.mark.parametrize(
    ("method", "headers", "body", "names", "signature"),
    [
        (
            "GET",
            {},
            b"",
            "host;x-amz-date",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "POST",
            {},
            b"",
            "host;x-amz-date",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "POST",
            {"Content-Type": "application/x-www-form-urlencoded"},
            b"Param1=value1",
            "content-type;host;x-amz-date",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
    ids=["get-vanilla", "post-vanilla", "post-x-www-form-urlencoded"],
)
def test_the_published_vectors(
    method: str, headers: dict[str, str], body: bytes, names: str, signature: str
) -> None:
    assert signed(method, headers=headers, body=body)["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


def test_a_session_token_is_sent_and_signed() -> None:
    headers = signed("GET", token="of an hour")
    assert headers["X-Amz-Security-Token"] == "of an hour"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token," in headers["Authorization"]
    assert KEY.value not in str(headers)
