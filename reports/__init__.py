"""Read run records and compare them: statistics, tables, figures, claims and the results page."""
