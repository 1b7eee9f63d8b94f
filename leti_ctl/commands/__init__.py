"""One module per command; heavy imports stay inside the commands."""
