"""Command-line tools over the packages; what a tool needs beyond one file lies in a folder here."""
