"""The page without a browser: signing in, what each page shows, and what is escaped."""

from datetime import timedelta

import httpx2 as httpx
import pytest

from audit import merge
from audit.page.rendering import format_age
from comms.platform.clock import utc_now
from schemas import events
from schemas.events import ProviderResponse
from schemas.vocabulary import Reason
from tests.audit import samples, scene


async def sign_in(visitor: httpx.AsyncClient, key: str, to: str = "/") -> httpx.Response:
    return await visitor.post("/login", data={"key": key, "to": to})


@pytest.mark.parametrize("path", ["/", "/messages", "/messages/unknown"])
async def test_a_request_without_a_key_gets_the_sign_in_form(
    visitor: httpx.AsyncClient, path: str
) -> None:
    response = await visitor.get(path)
    assert response.status_code == 200
    assert 'action="/login"' in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


async def test_a_key_signs_in_and_out(visitor: httpx.AsyncClient, key: str) -> None:
    refused = await sign_in(visitor, "ck_wrong")
    assert refused.status_code == 401
    assert "not a valid API key" in refused.text
    response = await sign_in(visitor, key, "/messages?status=failed")
    assert (response.status_code, response.headers["location"]) == (303, "/messages?status=failed")
    cookie = response.headers["set-cookie"].lower()
    assert "comms_key=" in cookie
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "In the outbox" in (await visitor.get("/")).text
    await visitor.post("/logout")
    assert 'action="/login"' in (await visitor.get("/")).text


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "x"])
async def test_signing_in_redirects_only_within_the_site(
    visitor: httpx.AsyncClient, key: str, to: str
) -> None:
    assert (await sign_in(visitor, key, to)).headers["location"] == "/"


async def test_the_overview_shows_backlog_readiness_counts_and_messages(
    client: httpx.AsyncClient, connection: merge.Connection
) -> None:
    scene.play(connection, now=utc_now(), count=60)
    text = (await client.get("/")).text
    for expected in ("In the outbox", "SMS", "Degraded", "fcm: connection refused", "pending"):
        assert expected in text
    assert '<p class="figure">9</p>' in text
    assert text.count("<tr>") == 21


async def test_a_request_for_the_live_block_gets_only_that_block(
    client: httpx.AsyncClient, connection: merge.Connection
) -> None:
    failed = scene.play(connection, now=utc_now(), count=20)
    for path in ("/", "/messages", f"/messages/{failed}"):
        response = await client.get(path, headers={"X-Fragment": "live"})
        assert response.status_code == 200
        assert "<html" not in response.text
        assert str(failed) in response.text or path != f"/messages/{failed}"


async def test_a_message_shows_the_provider_response_as_text(
    client: httpx.AsyncClient, connection: merge.Connection
) -> None:
    message = samples.sms()
    response = ProviderResponse(code="7", detail="<script>alert(1)</script>", raw="{'raw': 1}")
    event = events.failed(
        message, reason=Reason.REJECTED, at=samples.after(message, 9), response=response
    )
    merge.merge(connection, [events.queued(message), event], {})
    text = (await client.get(f"/messages/{message.id}")).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text
    assert "Raw answer" in text


async def test_only_an_unknown_message_has_the_buttons_to_settle_it(
    client: httpx.AsyncClient, connection: merge.Connection
) -> None:
    unknown, delivered = samples.sms(), samples.sms()
    at = samples.after(unknown, 9)
    doubt = events.in_doubt(unknown, attempt=1, provider="p", at=at, response=ProviderResponse())
    merge.merge(connection, [doubt, *samples.delivered_life(delivered)], {})
    text = (await client.get(f"/messages/{unknown.id}", headers={"X-Fragment": "live"})).text
    for resolution in ("sent", "failed", "resend"):
        assert f'data-resolve="{resolution}"' in text
    assert "data-resolve" not in (await client.get(f"/messages/{delivered.id}")).text


async def test_an_invalid_search_names_the_field(client: httpx.AsyncClient) -> None:
    text = (await client.get("/messages?since=yesterday&limit=9999&cursor=x")).text
    assert "<b>since</b>" in text
    assert 'value="yesterday"' in text


async def test_a_message_of_another_tenant_is_not_found(
    client: httpx.AsyncClient, connection: merge.Connection
) -> None:
    foreign = samples.sms(tenant="other")
    merge.merge(connection, samples.delivered_life(foreign), {})
    for path in (f"/messages/{foreign.id}", "/messages/nonsense"):
        assert (await client.get(path)).status_code == 404


async def test_only_assets_are_served(visitor: httpx.AsyncClient) -> None:
    assert (await visitor.get("/assets/page.js")).headers["content-type"].startswith("text/java")
    assert (await visitor.get("/assets/rendering.py")).status_code == 404
    assert (await visitor.get("/assets/..%2Frendering.py")).status_code == 404


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "just now"),
        (12.9, "12 s ago"),
        (-7200, "in 2 h"),
        (59 * 60, "59 min ago"),
        (9e6, "104 d ago"),
    ],
)
def test_an_age_is_shown_in_its_largest_unit(seconds: float, text: str) -> None:
    assert format_age(timedelta(seconds=seconds)) == text
