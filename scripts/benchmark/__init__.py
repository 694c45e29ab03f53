"""What the timing scripts share: taking turns, the optimizers that scripts/bench.py times, its tables and figure."""
