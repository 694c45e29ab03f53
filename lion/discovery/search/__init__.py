"""The search: mutation, regularized evolution, workers that evaluate, and the funnel of larger tasks after it."""
