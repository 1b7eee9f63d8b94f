"""Measurements of the judge; see README.md."""
