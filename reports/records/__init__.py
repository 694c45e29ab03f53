"""Read run records, archives of records and timings as tables."""
