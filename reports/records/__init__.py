"""Run records, archives of them and timings, as tables."""
