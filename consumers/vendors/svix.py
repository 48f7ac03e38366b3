"""Svix signatures, with which several providers sign their webhooks.

Their receipt parsers ask here first: https://docs.svix.com/receiving/verifying-payloads/how-manual
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from datetime import datetime

from comms.platform.settings import Secret
from consumers.sdk.options import Options
from consumers.sdk.receipts import BadSignatureError, check_signature_age

_PREFIX = "whsec_"


def verify(headers: Mapping[str, str], body: bytes, *, secret: Secret, now: datetime) -> None:
    """Prove that a request is the provider's.

    Args:
        headers: by lower-case name.

    Raises:
        BadSignatureError: it is not, or is too old to be taken.
    """
    id_, sent = headers.get("svix-id", ""), headers.get("svix-timestamp", "")
    if not id_:
        raise BadSignatureError("no Svix headers")
    check_signature_age(sent, now=now)
    mac = hmac.new(_key(secret.value), f"{id_}.{sent}.".encode() + body, "sha256")
    expected = base64.b64encode(mac.digest())
    # A secret that is being replaced signs beside its successor.
    pairs = (one.partition(",") for one in headers.get("svix-signature", "").split(" "))
    known = [said.encode() for version, _, said in pairs if version == "v1"]
    if not any([hmac.compare_digest(one, expected) for one in known]):  # noqa: C419 - all of them
        raise BadSignatureError("the signature is not the provider's")


def check_secret(secret: Secret, options: Options, option: str) -> Secret:
    """The secret, once `Options.done` has found it set.

    Raises:
        SettingsError: it cannot sign anything; its text is not shown.
    """
    try:
        if _key(secret.value):
            return secret
    except (binascii.Error, ValueError):
        pass
    raise options.wrong(option, f"must hold a signing secret ({_PREFIX}…)")


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
