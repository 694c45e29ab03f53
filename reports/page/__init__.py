"""The results page: one HTML file that needs no network, from content of plain values."""
