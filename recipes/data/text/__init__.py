"""Texts, and texts with answers."""
