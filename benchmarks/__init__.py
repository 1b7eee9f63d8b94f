"""Figures, with the commands that make them: `python -m benchmarks.<name>`; results stand in each README.md."""
