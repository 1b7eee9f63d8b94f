"""Generation: leti's decode loop beside `model.generate`."""
