"""train: one iteration's optimizer steps, from this iteration's checkpoint to the next one's."""
