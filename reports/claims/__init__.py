"""Claims of the paper, judged by run records."""
