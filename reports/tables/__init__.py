"""Comparison tables and overviews: built, and printed as text, Markdown, CSV and LaTeX."""
