"""Training beside other ways."""
