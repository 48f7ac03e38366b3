"""Errors of the contract, one tree.

ContractError
├── UndecodableError        bytes that are not one of our records
├── InvalidRecordError      a record that decodes and breaks a rule; names the fields
├── UnknownSchemaError      a fingerprint or registry id that nobody published
└── IncompatibleSchemaError a schema that old or new readers would not survive
"""

from dataclasses import dataclass
from uuid import UUID


class ContractError(Exception):
    """Base of everything this package raises."""


class UndecodableError(ContractError):
    """The bytes are not a record of the expected type."""


class UnknownSchemaError(UndecodableError):
    """The bytes name a schema that is not published."""


class IncompatibleSchemaError(ContractError):
    """A schema changed in a way that old or new readers do not survive."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule.

    Args:
        field: the field's name as the sender wrote it, e.g. `to` or `attachments[0].content`.
        problem: what is wrong with it, as a sentence without the offending value.
    """

    field: str
    problem: str

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class InvalidRecordError(ContractError):
    """A record decoded, and breaks rules of its channel.

    Attributes:
        violations: every broken rule, never empty.
        message_id, tenant: the record's own, where they could be read.
    """

    def __init__(
        self, violations: tuple[Violation, ...], message_id: UUID | None = None, tenant: str = ""
    ) -> None:
        super().__init__("; ".join(map(str, violations)))
        self.violations = violations
        self.message_id = message_id
        self.tenant = tenant
