"""Texts with answers: what data sets for text-to-text training are made of."""
