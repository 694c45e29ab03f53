"""Command-line tools over the packages; larger tools have a folder for their modules."""
