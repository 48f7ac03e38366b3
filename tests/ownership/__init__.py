"""Who owns each object of the database, and a checker that holds every SQL statement to it.

`objects` is the list. `python -m tests.ownership` writes it into docs/architecture.md as a table;
`tests/test_ownership.py` compares it with the document, with a migrated database, and with every
statement of the product, which `statements` finds and `rules` judges.
"""
