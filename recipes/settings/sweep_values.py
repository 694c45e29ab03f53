"""The values of a sweep on the command line, listed before it runs."""

import math
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, RangeSweep

from recipes.settings import choices

MOST_RUNS = 100_000  # of one sweep: Hydra lists all runs before the first begins
MOST_VALUES = 64  # of one swept setting, checked one by one; longer ranges are not checked


def single_values(override: Override) -> Iterator[Override]:
    """One override for each value of a swept override."""
    if not override.is_sweep_override():
        yield override
        return
    if not override.is_discrete_sweep():
        return  # intervals are for other sweepers, which report that
    values = list(given_texts(override))
    parser = OverridesParser.create()
    for value in values[:MOST_VALUES] + values[MOST_VALUES:][-1:]:
        yield parser.parse_override(f"{override.get_key_element()}={value}")


def problems(parsed: Sequence[Override]) -> list[str]:
    """Report sweeps without values or with more runs than can be listed."""
    sweeps = {str(override.input_line): count(override) for override in parsed if override.is_discrete_sweep()}
    runs = math.prod(sweeps.values())
    if runs > MOST_RUNS:
        most = max(sweeps, key=lambda text: sweeps[text])
        return [f"{most}: a sweep of {runs:,} runs; the most are {MOST_RUNS:,}"]
    return [f"{text} gives no value" for text, values in sweeps.items() if not values]


def given_texts(override: Override) -> Iterator[str]:
    """The values of a sweep as texts."""
    swept = override.value()
    if isinstance(swept, Glob):
        return iter(swept.filter(choices.allowed(override.key_or_group)))
    return override.sweep_string_iterator()


def count(override: Override) -> int:
    """How many values a sweep gives, without writing out those of a range."""
    swept = override.value()
    if isinstance(swept, Glob):
        return len(list(given_texts(override)))
    if not isinstance(swept, RangeSweep):
        return sum(1 for _ in override.sweep_iterator())
    start, stop, step = (float(value or 0) for value in (swept.start, swept.stop, swept.step))
    return max(0, math.ceil((stop - start) / step)) if step else 0
