"""What scripts/discover.py does, one file a command."""
