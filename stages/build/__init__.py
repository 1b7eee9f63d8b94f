"""build: executions become FCFT sequences, packed per training step."""
