"""Where the graph runs: one module per backend."""
