"""What is computed from records: choices, intervals, scores, curves."""
