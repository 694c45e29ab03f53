"""Language models: causal, masked, and text to text."""
