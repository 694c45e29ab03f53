"""Statistics of run records: choice of settings, intervals, scores, learning curves."""
