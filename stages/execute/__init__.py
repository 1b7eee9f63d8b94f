"""Execute: programs to executions. The only place where model-written code runs, and it runs in a sandbox."""
