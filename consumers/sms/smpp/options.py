"""The options of the provider type `smpp`.

`consumers.sms.smpp.building` makes the adapter from them. This module does not need the library of
the extra `smpp`, so that a table can be checked without it.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from consumers.sdk.error_codes import Meaning
from consumers.sdk.options import (
    Ascii,
    Byte,
    CallOptions,
    CertificateFile,
    Port,
    Seconds,
    SecretVariable,
    Text,
    WrongValueError,
    secret_variable,
)
from consumers.sms.smpp.errors import MEANINGS


class SmppOptions(CallOptions):
    """The SMSC, the login, and how the SMSC wants its texts.

    Attributes:
        host: of the SMSC.
        port: the customary one of `security` unless the table says otherwise.
        security: how the connection is protected.
        ca_file: authorities in place of the machine's.
        system_id: the login.
        password_env: the password of the login.
        system_type: what some SMSCs want in a bind.
        enquire_link_seconds: the time between two checks that the link is alive.
        window: the maximum number of submissions without an answer.
        sender: the sender of messages that name none.
        source_ton: the type of the sender's number; None to derive it from the sender.
        source_npi: the plan of the sender's number; None to derive it from the sender.
        dest_ton: the type of the recipient's number.
        dest_npi: the plan of the recipient's number.
        service_type: what some SMSCs want in a submission.
        alphabet: the SMSC's default alphabet.
        long_texts: how a long text is submitted.
        receipt_ids: how receipts write the ids of answers.
        codes: the meanings of the SMSC's own codes, by name.
    """

    host: Text
    port: Port | None = None
    security: Literal["tls", "none"] = "tls"
    ca_file: CertificateFile | None = None
    system_id: Text
    password_env: SecretVariable = secret_variable("SMPP_PASSWORD")
    system_type: Ascii = Field(default="", validate_default=False)
    enquire_link_seconds: Seconds = 30.0
    window: Annotated[int, Field(ge=1)] = 10
    sender: Ascii = Field(alias="from")
    source_ton: Byte | None = None
    source_npi: Byte | None = None
    dest_ton: Byte = 1  # international
    dest_npi: Byte = 1  # ISDN
    service_type: Ascii = Field(default="", validate_default=False)
    alphabet: Literal["gsm-7", "ucs-2"] = "gsm-7"
    long_texts: Literal["udh", "payload"] = "udh"
    receipt_ids: Literal["same", "decimal", "hex"] = "same"
    codes: dict[str, str] = Field(default_factory=dict)

    @field_validator("codes")
    @classmethod
    def _check_codes(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for code, meaning in value.items():
            if meaning not in MEANINGS:
                raise WrongValueError(f"must be one of: {', '.join(MEANINGS)}", key=code)
            try:
                int(code, 0)
            except ValueError:
                raise WrongValueError("must be a number, such as 0x40B", key=code) from None
        return value

    @property
    def meanings(self) -> dict[int, Meaning]:
        """The meanings of the SMSC's own codes."""
        return {int(code, 0): MEANINGS[meaning] for code, meaning in self.codes.items()}
