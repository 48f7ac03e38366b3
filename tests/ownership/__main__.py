"""`python -m tests.ownership`: writes the table of owners into docs/architecture.md."""

from tests.ownership.document import PAGE, with_table

PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
