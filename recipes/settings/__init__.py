"""Settings: their schema, their checks, and what follows from data and tables."""
