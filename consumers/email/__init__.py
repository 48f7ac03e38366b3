"""E-mail: the kinds of providers it goes out through.

`python -m consumers.email` runs the channel.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from consumers.email.mailgun import MAILGUN
from consumers.email.postmark import POSTMARK
from consumers.email.resend import RESEND
from consumers.email.sendgrid import SENDGRID
from consumers.email.ses import SES
from consumers.email.smtp import SMTP
from consumers.sdk.provider_type import ProviderType
from consumers.simulator.adapter import SIMULATED

PROVIDER_TYPES: Mapping[str, ProviderType[Any]] = MappingProxyType(
    {
        "mailgun": MAILGUN,
        "postmark": POSTMARK,
        "resend": RESEND,
        "sendgrid": SENDGRID,
        "ses": SES,
        "simulated": SIMULATED,
        "smtp": SMTP,
    }
)
