"""Where the graph runs: one package per backend."""
