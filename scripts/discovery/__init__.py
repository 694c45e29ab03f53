"""The commands of scripts/discover.py, and what they share."""
