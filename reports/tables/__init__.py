"""Comparison tables and overviews, and how they are printed."""
