"""Google's access tokens: exchanged for a signed word of the service account, and renewed."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from comms.platform.settings import Secret, SettingsError
from consumers.push.google import AccessTokens, BadKeyError, ServiceAccount
from consumers.sdk.http_transport import HttpTransport
from tests.consumers.push.test_fcm import ACCOUNT, NOW, PEM, TOKEN, FcmStub
from tests.consumers.push.test_fcm import TestFcm as _Fcm


async def test_a_token_is_renewed_before_it_ends(stub_of_tokens: FcmStub) -> None:
    now = [NOW]
    transport = HttpTransport(timeout_seconds=10, connections=1)
    await transport.open()
    account = ServiceAccount.read(Secret(json.dumps(ACCOUNT)))
    where = f"{stub_of_tokens.url}/token"
    tokens = AccessTokens(account, transport, scope="s", token_uri=where, clock=lambda: now[0])
    for minutes in (0, 54, 56):
        now[0] = NOW + timedelta(minutes=minutes)
        assert await tokens.header() == {"Authorization": f"Bearer {TOKEN}"}
    await transport.close()
    assert len(stub_of_tokens.exchanges) == 2


@pytest.fixture
async def stub_of_tokens() -> AsyncIterator[FcmStub]:
    made = FcmStub(_Fcm.dialogue)
    await made.start()
    yield made
    await made.stop()


def test_a_key_may_stand_in_a_file(tmp_path: Any) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(ACCOUNT))
    account = ServiceAccount.read(Secret(str(path)))
    assert (account.email, account.project_id) == (ACCOUNT["client_email"], "acme")
    assert PEM not in repr(account)


@pytest.mark.parametrize(
    "given",
    [
        "/no/such/file",
        "{",
        "{}",
        json.dumps(ACCOUNT | {"private_key": "-----BEGIN"}),
    ],
)
def test_what_is_no_key_is_refused_without_showing_it(given: str) -> None:
    with pytest.raises(BadKeyError) as caught:
        ServiceAccount.read(Secret(given))
    assert given not in str(caught.value)
    with pytest.raises(SettingsError, match="service_account_env"):
        replace(_Fcm.dialogue, environment={"GOOGLE_APPLICATION_CREDENTIALS": given}).provider(
            "http://127.0.0.1:9"
        )
