"""What the API and the page ask of the store: one module a question, typed values as answers."""
