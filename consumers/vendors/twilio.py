"""Twilio: the account, how it writes errors, and how it signs what it sends us.

Its text and voice adapters read their tables and answers here; their receipt parsers ask here
whether a request is Twilio's. https://www.twilio.com/docs/usage/security#validating-requests
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import SplitResult, parse_qs, parse_qsl, urlsplit

from comms.platform.settings import Secret
from consumers.sdk.capabilities import LIVE, LIVE_AND_TEST
from consumers.sdk.error_codes import (
    ACCOUNT,
    INVALID_RECIPIENT,
    LIMITED,
    REJECTED,
    SENDER,
    TRANSIENT,
    Meaning,
)
from consumers.sdk.http_provider import Request, basic_auth, json_object, text_or_none
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import CallOptions, HttpsUrl, SecretVariable, secret_variable
from consumers.sdk.provider_type import ProviderContext
from consumers.sdk.receipts import BadSignatureError, UnreadableReceiptError
from schemas.events import ProviderResponse
from schemas.vocabulary import Mode

BASE_URL = "https://api.twilio.com"
TEST_NUMBER = "+15005550006"  # the sender that test credentials take
ERRORS_PAGE = "https://www.twilio.com/docs/api/errors"
SIGNATURE_HEADER = "x-twilio-signature"
SETTINGS_HEADER = "x-twilio-webhooks-signature-settings"

# What means the same of a text and of a call.
CODES: Mapping[str, Meaning] = MappingProxyType(
    {
        "21211": INVALID_RECIPIENT,  # invalid 'To'
        "21217": INVALID_RECIPIENT,
        "21266": REJECTED,  # 'To' and 'From' are the same
        "21212": SENDER,
        "20003": ACCOUNT,  # wrong credentials
        "20005": ACCOUNT,  # not active
        "20008": ACCOUNT,  # test credentials
        "20404": ACCOUNT,  # no such account
        "21609": ACCOUNT,  # our address for receipts is refused
        "90010": ACCOUNT,  # not active
        "20500": TRANSIENT,
        "20503": TRANSIENT,
        "20429": LIMITED,
    }
)

_FAILED = ("failed", "undelivered", "canceled")
_PORTS = {"https": 443, "http": 80}
_DIGESTS = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TwilioAccount:
    """Whose account is used, and how calls prove it: the auth token, or an API key.

    Args:
        callbacks: whether Twilio can reach us; it refuses an address that only we can.
        for_tests: with the credentials that Twilio checks requests by, and does nothing:
            https://www.twilio.com/docs/iam/test-credentials
    """

    sid: str
    base_url: str
    headers: Mapping[str, str]
    callbacks: bool
    for_tests: "TwilioAccount | None" = None

    def meant(self, mode: Mode) -> "TwilioAccount":
        """The account that a message so meant is sent by.

        Raises:
            ValueError: there are no credentials for tests. No such message is given to a provider
                that does not take it.
        """
        if mode is Mode.LIVE:
            return self
        if self.for_tests is None:
            raise ValueError("no credentials for tests")
        return self.for_tests

    def url(self, resource: str) -> str:
        """Where a resource of the account is, such as `Messages.json`."""
        return f"{self.base_url}/2010-04-01/Accounts/{self.sid}/{resource}"

    def probe(self) -> Request:
        """Reads the account: it proves the credentials and costs nothing."""
        url = f"{self.base_url}/2010-04-01/Accounts/{self.sid}.json"
        return Request(method="GET", url=url, headers=self.headers)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Keys:
    """What Twilio signs with: the auth token, or a shared key where one is set up there."""

    token: Secret | None
    shared: Secret | None


class TwilioOptions(CallOptions):
    """The options of a Twilio account. A call proves itself by the auth token, or by an API key.

    Attributes:
        account_sid_env: the account SID (AC…).
        auth_token_env: the auth token. Receipts are signed with it, unless a shared key is set up.
        api_key_env: the API key that is used in place of the auth token.
        api_secret_env: the secret of the API key.
        test_account_sid_env: the SID of the test credentials.
        test_auth_token_env: the token of the test credentials.
        webhook_key_env: the shared key that signs receipts.
        base_url: the address of the API.
    """

    account_sid_env: SecretVariable = secret_variable("TWILIO_ACCOUNT_SID")
    auth_token_env: SecretVariable = secret_variable("TWILIO_AUTH_TOKEN")
    api_key_env: SecretVariable = secret_variable("TWILIO_API_KEY")
    api_secret_env: SecretVariable = secret_variable("TWILIO_API_SECRET")
    test_account_sid_env: SecretVariable = secret_variable("TWILIO_TEST_ACCOUNT_SID")
    test_auth_token_env: SecretVariable = secret_variable("TWILIO_TEST_AUTH_TOKEN")
    webhook_key_env: SecretVariable = secret_variable("TWILIO_WEBHOOK_KEY")
    base_url: HttpsUrl = BASE_URL

    @property
    def has_test_credentials(self) -> bool:
        """Whether the credentials for tests are set up."""
        return self.test_account_sid_env.is_expected and self.test_auth_token_env.is_expected


def account_of(context: ProviderContext[TwilioOptions]) -> TwilioAccount:
    """Make the account of a configured provider.

    Raises:
        SettingsError: a variable does not hold an account SID, or a secret is not set.
    """
    options = context.options
    sid, user = options.account_sid_env.secret().value, options.api_key_env.optional_secret()
    password = (options.auth_token_env if user is None else options.api_secret_env).secret()
    if not (sid.startswith("AC") and sid.isalnum() and sid.isascii()):
        raise context.wrong("account_sid_env", "must hold an account SID (AC…)")
    return TwilioAccount(
        sid=sid,
        base_url=options.base_url,
        headers=MappingProxyType(basic_auth(user.value if user else sid, password)),
        callbacks=context.is_reachable_from(options.base_url),
        for_tests=_test_account(options) if options.has_test_credentials else None,
    )


def _test_account(options: TwilioOptions) -> TwilioAccount:
    sid, token = options.test_account_sid_env.secret().value, options.test_auth_token_env.secret()
    return TwilioAccount(
        sid=sid,
        base_url=options.base_url,
        headers=MappingProxyType(basic_auth(sid, token)),
        callbacks=False,
    )


def modes(context: ProviderContext[TwilioOptions]) -> frozenset[Mode]:
    """Return the modes that the provider accepts: tests too if their credentials are set up."""
    return LIVE_AND_TEST if context.options.has_test_credentials else LIVE


def signing_keys(options: TwilioOptions) -> Keys:
    """Return the keys that sign receipts.

    Raises:
        MissingSecretError: neither a shared key nor the auth token is set.
    """
    shared, token = options.webhook_key_env.optional_secret(), options.auth_token_env
    return Keys(token=token.optional_secret() if shared else token.secret(), shared=shared)


def probe_problem(answer: Answer) -> str | None:
    """What the account's own page says against it: it may be suspended or closed.
    https://www.twilio.com/docs/iam/api/account#account-properties"""
    status = text_or_none(json_object(answer.text).get("status"))
    return None if status in (None, "active") else f"the account is {status}"


def words_of(answer: Answer) -> ProviderResponse:
    """What an answer says: `{sid, status}` of what was taken, `{code, message}` of what was not."""
    said = json_object(answer.text)
    return ProviderResponse(
        provider_message_id=text_or_none(said.get("sid")),
        code=text_or_none(said.get("code") or said.get("error_code") or None) or str(answer.status),
        detail=text_or_none(said.get("message")) or text_or_none(said.get("status")),
        raw=answer.text,
    )


def is_success(answer: Answer) -> bool:
    """Whether something was taken: a message may be created and have failed, and say so."""
    return 200 <= answer.status < 300 and json_object(answer.text).get("status") not in _FAILED


def verified(headers: Mapping[str, str], body: bytes, url: str, *, keys: Keys) -> dict[str, str]:
    """The fields of a request that Twilio signed.

    Args:
        headers: by lower-case name; url: the public one, as Twilio called it.

    Raises:
        BadSignatureError: it did not sign this.
        UnreadableReceiptError: it did, and there are no fields.
    """
    pairs = _signed_fields(headers, body, url)
    secret, digest = _signer(headers.get(SETTINGS_HEADER, ""), keys)
    said = headers.get(SIGNATURE_HEADER, "").encode()
    ways = [signature(secret, one, pairs, digest=digest).encode() for one in _spellings(url)]
    if not any([hmac.compare_digest(way, said) for way in ways]):  # noqa: C419 - all are compared
        raise BadSignatureError("the signature is not the provider's")
    if pairs or not body:
        return dict(pairs)
    fields = json_object(body)
    if not fields:
        raise UnreadableReceiptError("neither a form nor a JSON object")
    return {name: text_or_none(value) or "" for name, value in fields.items()}


def signature(
    secret: Secret, url: str, fields: list[tuple[str, str]], *, digest: str = "sha1"
) -> str:
    """What Twilio writes into its header: the address and every field, sorted, each once."""
    text = url + "".join(f"{name}{value}" for name, value in sorted(set(fields)))
    mac = hmac.new(secret.value.encode(), text.encode(), digest)
    return base64.b64encode(mac.digest()).decode()


def _signed_fields(headers: Mapping[str, str], body: bytes, url: str) -> list[tuple[str, str]]:
    """A form's fields are signed one by one; another body by its hash in the address."""
    expected = parse_qs(urlsplit(url).query).get("bodySHA256")
    if "json" not in headers.get("content-type", "") and expected is None:
        try:
            return parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body))
        except ValueError as error:
            raise BadSignatureError("no form, and no hash of the body") from error
    found = hashlib.sha256(body).hexdigest()
    if expected is None or not hmac.compare_digest(found.encode(), expected[0].lower().encode()):
        raise BadSignatureError("the body is not the one that was signed")
    return []


def _signer(settings: str, keys: Keys) -> tuple[Secret, str]:
    """The secret and hash of a signature, by the header that Twilio adds for shared keys:
    `key=webhooks_sharedkey_…,algorithm=HMAC_SHA256`."""
    told = dict(part.strip().partition("=")[::2] for part in settings.split(","))
    digest = _DIGESTS.get(told.get("algorithm", "HMAC_SHA1"))
    secret = keys.shared if told.get("key") else keys.token
    if digest is None or secret is None or not secret.value:
        raise BadSignatureError("signed by a key or in a way that is not set up here")
    return secret, digest


def _spellings(url: str) -> set[str]:
    """The address with its port and without: which one Twilio signs differs."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    port = parts.port or _PORTS.get(parts.scheme, 443)
    return {url, _with(parts, host), _with(parts, f"{host}:{port}")}


def _with(parts: SplitResult, netloc: str) -> str:
    return parts._replace(netloc=netloc).geturl()
