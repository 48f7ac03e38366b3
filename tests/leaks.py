"""What must not be shown, planted wherever it can be; and where it was shown all the same.

`tests.test_leaks` gives these secrets to every process, sends these messages, and searches what
the processes wrote and answered for any of it, in any of the forms in which it travels.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_PEM = _RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
_VAPID = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(32, "big")
_DEVICE = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
_POINT = b"\x04" + _DEVICE.x.to_bytes(32, "big") + _DEVICE.y.to_bytes(32, "big")


def _url64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


PASSWORD = "planted-database-pw-4711"
SECRETS: dict[str, str] = {
    "TWILIO_ACCOUNT_SID": "AC" + "9f3b" * 8,
    "TWILIO_AUTH_TOKEN": "planted-twilio-token",
    "TWILIO_WEBHOOK_KEY": "planted-twilio-webhook",
    "VONAGE_API_KEY": "planted-vonage-key",
    "VONAGE_API_SECRET": "planted-vonage-secret",
    "VONAGE_SIGNATURE_SECRET": "planted-vonage-signature-secret-32",
    "TELNYX_API_KEY": "KEY-planted-telnyx",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED",
    "AWS_SECRET_ACCESS_KEY": "planted-aws-secret",
    "AWS_SESSION_TOKEN": "planted-aws-session",
    "RESEND_API_KEY": "re_planted",
    "RESEND_WEBHOOK_SECRET": "whsec_" + base64.b64encode(b"planted-resend-webhook").decode(),
    "POSTMARK_SERVER_TOKEN": "planted-postmark-token",
    "POSTMARK_WEBHOOK_SECRET": "planted-postmark-webhook",
    "SENDGRID_API_KEY": "SG.planted",
    "MAILGUN_API_KEY": "planted-mailgun-key",
    "MAILGUN_WEBHOOK_SIGNING_KEY": "planted-mailgun-webhook",
    "EXPO_ACCESS_TOKEN": "planted-expo-token",
    "VAPID_PRIVATE_KEY": _url64(_VAPID),
    "SMTP_PASSWORD": "planted-smtp-password",
    "COMMS_SIMULATOR_SECRET": "planted-simulator-secret",
}
VONAGE_APPLICATION = {"VONAGE_APPLICATION_ID": "planted-application", "VONAGE_PRIVATE_KEY": _PEM}


def service_account(token_uri: str) -> str:
    """A service account of Google's, whose tokens are had here."""
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "acme",
            "private_key": _PEM,
            "private_key_id": "1",
            "client_email": "comms@acme.iam.gserviceaccount.com",
            "token_uri": token_uri,
        }
    )


NUMBERS = [f"+49151{n}7654321" for n in range(8)]
ADDRESSES = [f"planted.person{n}@private-mail.example" for n in range(8)]
TOKENS = [f"planted-device-token-{n}-{'k' * 20}" for n in range(8)]
ENDPOINT = "https://127.0.0.1/planted-push-endpoint"
SUBSCRIPTION = {
    "endpoint": ENDPOINT,
    "keys": {"p256dh": _url64(_POINT), "auth": _url64(b"planted-auth-16b")},
}
BODY = "planted body: your code is nine"
SUBJECT = "planted subject of a mail"
FILE = "planted-file-name.pdf"
NAME = "Planted Personname"
CONTENT = base64.b64encode(b"planted attachment").decode()


def planted(key: str) -> list[str]:
    """Everything that nobody may see who reads what processes say."""
    private = [line for line in _PEM.splitlines() if "-----" not in line][3]
    ours = [*NUMBERS, *ADDRESSES, *TOKENS, ENDPOINT, SUBSCRIPTION["keys"]["auth"]]  # type: ignore[index]
    said = [BODY, SUBJECT, FILE, NAME, CONTENT, "planted attachment"]
    return [*SECRETS.values(), PASSWORD, key, private, *ours, *said]


def forms(value: str) -> set[str]:
    """A value as it may travel: as it is, in an address, in a header, within JSON."""
    found = {value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1]}
    found.add(base64.b64encode(value.encode()).decode().rstrip("="))
    if value.startswith("+"):
        found.add(value[1:])
    return found


def leaks(texts: Mapping[str, str], values: Iterable[str]) -> list[str]:
    """Where which value was found, with what stands around it."""
    found = []
    for value in values:
        for form in forms(value):
            for name, text in texts.items():
                at = text.find(form)
                if at >= 0:
                    found.append(f"{name}: …{text[max(0, at - 120) : at + len(form) + 60]}…")
    return found
