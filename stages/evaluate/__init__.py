"""Scores of one iteration's model on one sampling pass: pass@k, error types, lengths, with confidence intervals."""
