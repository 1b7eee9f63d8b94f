"""The rules of `lint`, one module per subject; a rule is a function from a manifest to what it finds wrong."""
