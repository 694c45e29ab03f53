"""Tasks that score programs: a small network in numpy, small transformers in torch."""
