"""Diffusion models: class-conditional and text to image."""
