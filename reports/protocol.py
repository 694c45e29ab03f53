"""The protocol of comparisons (docs/comparison.md): which two optimizers, and what must have run before a verdict."""

REFERENCE = "adamw"  # the optimizer that the others are compared with
SUBJECT = "lion"  # the optimizer that is studied
TRIALS = 9  # settings tried for each optimizer
FRESH_SEEDS = 3  # completed runs of the chosen setting, on seeds that no trial saw
TRIAL_SEEDS_FROM = 1000  # runs with such seeds serve to choose a setting, and never stand in a mean
TIMING_ROUNDS = 31  # rounds of a timing in turn (scripts/speed.py), each with a block of steps of every optimizer
NEEDED = f"{TRIALS} trials and {FRESH_SEEDS} fresh seeds"
