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
from consumers.sdk.error_codes import ACCOUNT, LIMITED, NOBODY, REJECTED, SENDER, TRANSIENT, Meaning
from consumers.sdk.http_provider import Request, basic_auth, json_object, text_or_none
from consumers.sdk.http_transport import Answer
from consumers.sdk.options import LOOPBACK, Options
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
        "21211": NOBODY,  # invalid 'To'
        "21217": NOBODY,
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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AccountTable:
    """The options of a Twilio table that speak of the account, asked for but not looked into.

    Args:
        user, password: of the calls; `user` is None for the account itself.
    """

    sid: Secret
    base_url: str
    user: Secret | None
    password: Secret
    test_sid: Secret | None
    test_token: Secret | None

    @classmethod
    def read(cls, options: Options) -> "AccountTable":
        """Ask for them.

        Raises:
            SettingsError: one is wrong; a secret that is not set is told by `Options.done`.
        """
        options.others("webhook_key_env")
        sid = options.secret("account_sid_env", "TWILIO_ACCOUNT_SID")
        base_url = options.url("base_url", BASE_URL)
        user = options.optional_secret("api_key_env", "TWILIO_API_KEY")
        if user is None:
            options.others("api_secret_env")
            password = options.secret("auth_token_env", "TWILIO_AUTH_TOKEN")
        else:
            options.others("auth_token_env")
            password = options.secret("api_secret_env", "TWILIO_API_SECRET")
        test_sid, test_token = _test_credentials(options)
        return cls(
            sid=sid,
            base_url=base_url,
            user=user,
            password=password,
            test_sid=test_sid,
            test_token=test_token,
        )

    def account(self, setup: ProviderContext) -> TwilioAccount:
        """The account, once `Options.done` has found everything set.

        Raises:
            SettingsError: what the variable holds is no account SID.
        """
        sid = self.sid.value
        if not (sid.startswith("AC") and sid.isalnum() and sid.isascii()):
            raise setup.options.wrong("account_sid_env", "must hold an account SID (AC…)")
        user = self.user.value if self.user else sid
        here, there = urlsplit(setup.receipts_url).hostname, urlsplit(self.base_url).hostname
        return TwilioAccount(
            sid=sid,
            base_url=self.base_url,
            headers=MappingProxyType(basic_auth(user, self.password)),
            callbacks=here not in LOOPBACK or there in LOOPBACK,
            for_tests=self._for_tests(),
        )

    def _for_tests(self) -> TwilioAccount | None:
        if self.test_sid is None or self.test_token is None:
            return None
        sid = self.test_sid.value
        headers = MappingProxyType(basic_auth(sid, self.test_token))
        return TwilioAccount(sid=sid, base_url=self.base_url, headers=headers, callbacks=False)


def modes(setup: ProviderContext) -> frozenset[Mode]:
    """Tests are taken where their credentials are set."""
    return LIVE if None in _test_credentials(setup.options) else LIVE_AND_TEST


def _test_credentials(options: Options) -> tuple[Secret | None, Secret | None]:
    return (
        options.optional_secret("test_account_sid_env", "TWILIO_TEST_ACCOUNT_SID"),
        options.optional_secret("test_auth_token_env", "TWILIO_TEST_AUTH_TOKEN"),
    )


def read_keys(options: Options) -> Keys:
    """What signs receipts; the adapter's options of the account are left to it.

    Raises:
        SettingsError: an option is wrong; a secret that is not set is told by `Options.done`.
    """
    options.others("account_sid_env", "api_key_env", "api_secret_env", "base_url")
    options.others("test_account_sid_env", "test_auth_token_env")
    shared = options.optional_secret("webhook_key_env", "TWILIO_WEBHOOK_KEY")
    named = ("auth_token_env", "TWILIO_AUTH_TOKEN")
    token = options.optional_secret(*named) if shared else options.secret(*named)
    return Keys(token=token, shared=shared)


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
