"""The control plane: what runs on the operator's machine or in CI. Importing it loads no torch and no kubernetes."""
