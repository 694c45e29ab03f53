"""Formats of labelled images: class folders, and tables that name or contain images."""
