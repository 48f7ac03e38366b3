"""Answers the questions of the API and the page: one module for each, with typed answers."""
