"""Notifications of Amazon SNS: whose they are, and how a subscription is confirmed.

Receipt parsers of Amazon's services ask a `Topic` for what a request says. A signature is proved by
a certificate that stands at Amazon's own address for the topic's region. It is fetched once, on a
thread; what comes before it is there is not taken yet, and SNS sends it again.
https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from http.client import HTTPException
from typing import Annotated
from urllib.request import HTTPRedirectHandler, build_opener

import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509 import load_pem_x509_certificate
from pydantic import AfterValidator

from consumers.sdk.http_provider import json_object
from consumers.sdk.options import Text
from consumers.sdk.receipts import BadSignatureError, NotSetUpError, UnreadableReceiptError

log = structlog.get_logger(__name__)

AGE_SECONDS = 86_400  # SNS tries for hours, and its repetitions have the first one's time
FETCH_SECONDS = 5.0
_LONGEST = 64 * 1024  # bytes of a certificate
_MOST_KEYS = 10  # Amazon changes its certificates about once a year

_ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z0-9-]+):\d{12}:[\w.-]+")
_CERTIFICATE = re.compile(r"/SimpleNotificationService-[0-9a-f]{16,64}\.pem")
_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}
_DIGESTS: Mapping[str, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "2": hashes.SHA256()}  # noqa: S303 - SNS's own first version

Fetch = Callable[[str], bytes]


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def fetch(url: str) -> bytes:
    """What stands at an https address, of which nothing but the address is known to be good.

    Raises:
        OSError: it could not be had.
    """
    try:
        with build_opener(_NoRedirect).open(url, timeout=FETCH_SECONDS) as answer:
            return bytes(answer.read(_LONGEST))
    except HTTPException as error:
        raise OSError(type(error).__name__) from error


class Topic:
    """The topic whose notifications are taken.

    Args:
        arn: of an SNS topic (`TopicArn`).
        fetch: reads an address; raises OSError.
    """

    def __init__(self, arn: str, *, fetch: Fetch = fetch) -> None:
        found = _ARN.fullmatch(arn)
        if found is None:
            raise ValueError("no ARN of an SNS topic")
        self._arn, self._fetch = arn, fetch
        self._host = f"sns.{found[2]}.amazonaws.com" + (".cn" if found[1] == "aws-cn" else "")
        self._keys: dict[str, rsa.RSAPublicKey] = {}
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="sns")
        self._coming: Future[None] | None = None

    def message_in(self, body: bytes, *, now: datetime) -> str | None:
        """What a notification of the topic says; None where it asks to confirm, which is done.

        Raises:
            BadSignatureError: it is not of the topic, or too old.
            NotSetUpError: the certificate is not here yet.
            UnreadableReceiptError: it is of another kind.
        """
        said = json_object(body)
        names = _SIGNED.get(str(said.get("Type")))
        if said.get("TopicArn") != self._arn or names is None:
            raise BadSignatureError("no notification of the topic")
        self._verify(said, names, now)
        if said["Type"] == "SubscriptionConfirmation":
            self._confirm(str(said.get("SubscribeURL")))
            return None
        if not isinstance(said.get("Message"), str):
            raise UnreadableReceiptError("a notification without a message")
        return str(said["Message"])

    def _verify(self, said: Mapping[str, object], names: tuple[str, ...], now: datetime) -> None:
        text = "".join(f"{name}\n{said[name]}\n" for name in names if said.get(name) is not None)
        try:
            sent = datetime.fromisoformat(str(said.get("Timestamp")))
            signature = base64.b64decode(str(said.get("Signature")), validate=True)
        except (ValueError, binascii.Error) as error:
            raise BadSignatureError("no time, or no signature") from error
        sent = sent if sent.tzinfo else sent.replace(tzinfo=UTC)
        if abs((now - sent).total_seconds()) > AGE_SECONDS:
            raise BadSignatureError("signed too long ago, or in the future")
        digest = _DIGESTS.get(str(said.get("SignatureVersion")))
        if digest is None:
            raise BadSignatureError("signed in a way that is not known")
        try:
            key = self._key(str(said.get("SigningCertURL")))
            key.verify(signature, text.encode("utf-8", "replace"), padding.PKCS1v15(), digest)
        except InvalidSignature as error:
            raise BadSignatureError("the signature is not the provider's") from error

    def _key(self, url: str) -> rsa.RSAPublicKey:
        root = f"https://{self._host}"
        if not url.startswith(root) or not _CERTIFICATE.fullmatch(url.removeprefix(root)):
            raise BadSignatureError("a certificate from elsewhere")
        if url not in self._keys:
            self._begin(lambda: self._learn(url))
            raise NotSetUpError("the certificate of the topic's signatures is being fetched")
        return self._keys[url]

    def _confirm(self, url: str) -> None:
        if not url.startswith(f"https://{self._host}/"):
            raise BadSignatureError("a subscription from elsewhere")
        self._begin(lambda: self._say_yes(url))

    def _begin(self, what: Callable[[], None]) -> None:
        """One at a time: whoever invents addresses keeps nobody waiting, and SNS asks again."""
        if self._coming is None or self._coming.done():
            self._coming = self._threads.submit(what)

    def _learn(self, url: str) -> None:
        try:
            key = load_pem_x509_certificate(self._fetch(url)).public_key()
        except (OSError, ValueError) as error:
            log.warning("sns.no_certificate", problem=type(error).__name__)
            return
        if isinstance(key, rsa.RSAPublicKey):
            while len(self._keys) >= _MOST_KEYS:
                del self._keys[next(iter(self._keys))]
            self._keys[url] = key

    def _say_yes(self, url: str) -> None:
        try:
            self._fetch(url)
        except OSError as error:
            log.warning("sns.not_confirmed", topic=self._arn, problem=type(error).__name__)
        else:
            log.info("sns.confirmed", topic=self._arn)


def _check_arn(value: str) -> str:
    if not _ARN.fullmatch(value):
        raise ValueError("must be the ARN of an SNS topic")
    return value


TopicArn = Annotated[Text, AfterValidator(_check_arn)]
"""The option `topic_arn`: the topic to which the provider publishes its events."""
