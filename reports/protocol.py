"""Constants of the comparison protocol (docs/comparison.md): the two optimizers, and the runs that a verdict needs."""

REFERENCE = "adamw"  # the optimizer that the others are compared with
SUBJECT = "lion"  # the optimizer that is studied
TRIALS = 9  # settings tried for each optimizer
FRESH_SEEDS = 3  # completed runs of the chosen setting, on seeds that no trial saw
TRIAL_SEEDS_FROM = 1000  # runs with such seeds are used to choose a setting, never in a mean
TIMING_ROUNDS = 31  # rounds of a timing in turn (scripts/speed.py), each with a block of steps of every optimizer
NEEDED = f"{TRIALS} trials and {FRESH_SEEDS} fresh seeds"

# The variance that the choice of settings adds to the mean difference of two optimizers, as a share of the variance of
# one seed's difference, by the number of settings and of trial seeds behind the choice: with it at most 5% of equal
# optimizers are called different (`allowance` of scripts/maintenance/simulate_protocol.py --studies 20000).
CHOICE_VARIANCE = {(1, 1): 0.2, (3, 3): 0.14, (5, 5): 0.08}


def choice_variance(settings: int, trial_seeds: int) -> float:
    """The choice's variance where the best settings were run on so many trial seeds, or on more than were simulated.

    Args:
        settings: how many were compared by their mean over all of the trial seeds.
        trial_seeds: how many.
    """
    fitting = [value for (few, seeds), value in CHOICE_VARIANCE.items() if few <= settings and seeds <= trial_seeds]
    return min(fitting, default=CHOICE_VARIANCE[1, 1])
