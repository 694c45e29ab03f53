"""Parts of the timing scripts: round-robin timing, optimizers to time, tables and figure."""
