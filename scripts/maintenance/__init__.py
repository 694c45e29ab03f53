"""Makers of committed files, for maintainers: tuned settings, fixtures of tests."""
