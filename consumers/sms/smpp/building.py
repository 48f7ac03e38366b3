"""Makes the adapter of the provider type `smpp` from its options.

`consumers.sms.smpp` imports this module only when such a provider is built, because the library of
the extra `smpp` is needed from here on.
"""

import ssl

from comms.platform.settings import Secret
from consumers.sdk.http_provider import call_seconds
from consumers.sdk.provider_type import ProviderContext
from consumers.sms.smpp.connecting import Server
from consumers.sms.smpp.errors import with_own
from consumers.sms.smpp.options import SmppOptions
from consumers.sms.smpp.provider import SmppProvider
from consumers.sms.smpp.receipts import IdForm
from consumers.sms.smpp.submissions import Style

_PORTS = {"tls": 3550, "none": 2775}
_CONNECT_SECONDS = 10.0


def build(context: ProviderContext[SmppOptions]) -> SmppProvider:
    """Make the adapter; it is not yet open.

    Raises:
        SettingsError: the login cannot be sent in a bind, or a secret is not set.
    """
    options = context.options
    return SmppProvider(
        context.name,
        _server(context),
        _style(options),
        timeout_seconds=call_seconds(context),
        window=options.window,
        ids=IdForm(options.receipt_ids),
        table=with_own(options.meanings),
    )


def _server(context: ProviderContext[SmppOptions]) -> Server:
    options = context.options
    password = options.password_env.secret()
    _check_login(context, password)
    is_plain = options.security == "none"
    return Server(
        provider=context.name,
        host=options.host,
        port=options.port or _PORTS[options.security],
        tls=None if is_plain else ssl.create_default_context(cafile=options.ca_file),
        system_id=options.system_id,
        password=password,
        system_type=options.system_type,
        connect_seconds=min(_CONNECT_SECONDS, call_seconds(context)),
        enquire_seconds=options.enquire_link_seconds,
    )


def _style(options: SmppOptions) -> Style:
    return Style(
        sender=options.sender,
        source_ton=options.source_ton,
        source_npi=options.source_npi,
        dest_ton=options.dest_ton,
        dest_npi=options.dest_npi,
        service_type=options.service_type,
        ucs2_only=options.alphabet == "ucs-2",
        payload=options.long_texts == "payload",
    )


def _check_login(context: ProviderContext[SmppOptions], password: Secret) -> None:
    """Refuse what a bind cannot carry: every bind would fail."""
    login = {"system_id": context.options.system_id, "password_env": password.value}
    for option, value in login.items():
        if not value.isascii() or "\0" in value:
            raise context.wrong(option, "must hold ASCII only")
