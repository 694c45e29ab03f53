"""Constants of the comparison protocol (docs/comparison.md): the two optimizers, and the runs that a verdict needs."""

REFERENCE = "adamw"  # the optimizer that the others are compared with
SUBJECT = "lion"  # the optimizer that is studied
TRIALS = 9  # settings tried for each optimizer
FRESH_SEEDS = 3  # completed runs of the chosen setting, on seeds that no trial saw
TRIAL_SEEDS_FROM = 1000  # runs with such seeds are used to choose a setting, never in a mean
TIMING_ROUNDS = 31  # rounds of a timing in turn (scripts/speed.py), each with a block of steps of every optimizer
NEEDED = f"{TRIALS} trials and {FRESH_SEEDS} fresh seeds"

# The variance that the choice of settings adds to the mean difference of two optimizers, as a share of the variance of
# one seed's difference, by the number of trial seeds behind the choice: with it at most 5% of equal optimizers are
# called different, alone or in a family (`allowance` of scripts/maintenance/simulate_protocol.py).
CHOICE_VARIANCE = {1: 0.41, 3: 0.18, 5: 0.13}


def choice_variance(trial_seeds: int) -> float:
    """The choice's variance for a number of trial seeds, or for the next smaller number that was simulated."""
    return CHOICE_VARIANCE[max(number for number in CHOICE_VARIANCE if number <= max(trial_seeds, 1))]
