"""A table of the kind `smpp`, read strictly, and the adapter made of it."""

import ssl

from consumers.sdk.error_codes import Meaning
from consumers.sdk.http_provider import seconds_of
from consumers.sdk.options import Options
from consumers.sdk.provider_type import ProviderContext
from consumers.sms.smpp.connecting import Server
from consumers.sms.smpp.errors import MEANINGS, with_own
from consumers.sms.smpp.provider import SmppProvider
from consumers.sms.smpp.receipts import IdForm
from consumers.sms.smpp.submissions import INTERNATIONAL, ISDN, Style

_PORTS = {"tls": 3550, "none": 2775}
_CONNECT_SECONDS = 10.0
_HIGHEST_BYTE = 255


def build(setup: ProviderContext) -> SmppProvider:
    """The adapter, not yet open.

    Raises:
        SettingsError: an option is missing or wrong, or a secret is not set.
    """
    options = setup.options
    timeout = seconds_of(setup)
    server = _server(setup, timeout)
    style = _style(options)
    window = _whole(options, "window", 10, at_least=1)
    ids = IdForm(options.choice("receipt_ids", IdForm.SAME, among=tuple(IdForm)))
    table = with_own(_codes(options))
    options.done()
    _check_login(options, server)
    return SmppProvider(
        setup.name,
        server,
        style,
        timeout_seconds=timeout,
        window=window,
        ids=ids,
        table=table,
    )


def _server(setup: ProviderContext, timeout: float) -> Server:
    options = setup.options
    security = options.choice("security", "tls", among=("tls", "none"))
    authority = options.optional_text("ca_file")
    return Server(
        provider=setup.name,
        host=options.text("host"),
        port=_whole(options, "port", _PORTS[security], at_least=1),
        tls=_tls(options, authority) if security == "tls" else None,
        system_id=options.text("system_id"),
        password=options.secret("password_env", "SMPP_PASSWORD"),
        system_type=_ascii(options, "system_type", options.optional_text("system_type")),
        connect_seconds=min(_CONNECT_SECONDS, timeout),
        enquire_seconds=options.number("enquire_link_seconds", 30, at_least=0.1),
    )


def _style(options: Options) -> Style:
    return Style(
        sender=_ascii(options, "from", options.text("from")),
        source_ton=_byte_or_none(options, "source_ton"),
        source_npi=_byte_or_none(options, "source_npi"),
        dest_ton=_byte(options, "dest_ton", INTERNATIONAL),
        dest_npi=_byte(options, "dest_npi", ISDN),
        service_type=_ascii(options, "service_type", options.optional_text("service_type")),
        ucs2_only=options.choice("alphabet", "gsm-7", among=("gsm-7", "ucs-2")) == "ucs-2",
        payload=options.choice("long_texts", "udh", among=("udh", "payload")) == "payload",
    )


def _codes(options: Options) -> dict[int, Meaning]:
    """What the SMSC means by its own codes; they may be written as its documents have them."""
    found = {}
    for code, word in options.texts("codes").items():
        if word not in MEANINGS:
            raise options.wrong(f"codes.{code}", f"must be one of: {', '.join(MEANINGS)}")
        try:
            found[int(code, 0)] = MEANINGS[word]
        except ValueError as error:
            raise options.wrong(f"codes.{code}", "must be a number, such as 0x40B") from error
    return found


def _tls(options: Options, authority: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority)
    except (OSError, ssl.SSLError) as error:
        raise options.wrong("ca_file", "cannot be read as certificates") from error


def _whole(options: Options, name: str, default: int, *, at_least: int) -> int:
    value = options.number(name, default, at_least=at_least)
    if value != int(value):
        raise options.wrong(name, "must be a whole number")
    return int(value)


def _byte(options: Options, name: str, default: int, *, at_least: int = 0) -> int:
    value = _whole(options, name, default, at_least=at_least)
    if value > _HIGHEST_BYTE:
        raise options.wrong(name, f"must be at most {_HIGHEST_BYTE}")
    return value


def _byte_or_none(options: Options, name: str) -> int | None:
    value = _byte(options, name, -1, at_least=-1)
    return None if value < 0 else value


def _ascii(options: Options, name: str, value: str | None) -> str:
    if value is not None and not value.isascii():
        raise options.wrong(name, "must be ASCII")
    return value or ""


def _check_login(options: Options, server: Server) -> None:
    """What a bind cannot carry would fail every one of them."""
    logins = {"system_id": server.system_id, "password_env": server.password.value}
    for name, value in logins.items():
        if not value.isascii() or "\0" in value:
            raise options.wrong(name, "must hold ASCII alone")
