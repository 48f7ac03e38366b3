"""The errors that this package raises.

ContractError
├── UndecodableError         bytes that are not one of our records
│   └── UnknownSchemaError   a fingerprint or registry id of a schema that is not published
├── InvalidRecordError       a record that decodes and breaks a rule; names the fields
└── IncompatibleSchemaError  a schema that old or new readers cannot read
"""

from dataclasses import dataclass
from uuid import UUID


class ContractError(Exception):
    """The base class of every error of this package."""


class UndecodableError(ContractError):
    """The bytes are not a record of the expected type."""


class UnknownSchemaError(UndecodableError):
    """The bytes name a schema that is not published."""


class IncompatibleSchemaError(ContractError):
    """A schema changed so that old or new readers cannot read it."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule.

    Args:
        field: the name of the field as the sender wrote it, such as `to` or
            `attachments[0].content`.
        problem: what is wrong with the field, without its value.
    """

    field: str
    problem: str

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class InvalidRecordError(ContractError):
    """A record was decoded and breaks rules of its channel.

    Attributes:
        violations: every broken rule, never empty.
        message_id: the id of the record, if it could be read.
        tenant: the tenant of the record, if it could be read.
    """

    def __init__(
        self, violations: tuple[Violation, ...], message_id: UUID | None = None, tenant: str = ""
    ) -> None:
        super().__init__("; ".join(map(str, violations)))
        self.violations = violations
        self.message_id = message_id
        self.tenant = tenant
