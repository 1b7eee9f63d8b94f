"""What a run starts from: its problems, the pre-training stream and the base model with the special tokens added."""
