"""The results page: one HTML file that needs no network, rendered from plain values."""
