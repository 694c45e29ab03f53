"""Tune optimizers by one protocol: equal trials for each, chosen on validation, the winners run on fresh seeds.

python scripts/tune.py task=vit_b16 optim=all trials=9 seeds=3
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the packages of this checkout

RUN = Path(__file__).resolve().parent.parent / "run.py"
HELP = """\
usage: tune.py task=<names> optim=<names, all or field> [name=value ...]

Tune optimizers by one protocol: for each the same number of trials on a logarithmic grid of learning rate and weight
decay around its centre (conf/tuned), rings of further trials until the best is enclosed, the best few again on further
trial seeds, chosen on validation, the winner run on fresh seeds. Prints first how many runs that is and about how long
they take. A completed run is not done again: the same command continues after a stop.

  trials=9         points of the grid for each optimizer; neighbours differ by half a decade, the first 9 are 3 by 3;
                   169 at most (13 without weight decay): the grid ends at a thousand times the centre
  seeds=3          fresh seeds for each winner, from first_seed=0 on; reports show only these
  trial_seed=1000  seed of all trials; seeds from 1000 on are for choosing and never in a mean
  rings=4          how often at most the untried neighbours of the best setting are tried, until it is enclosed
  refine=true      try the learning rates a quarter of a decade from the best one
  shortlist=3      number of best settings to run again on further trial seeds; the best mean is chosen
  repeats=2        number of further trial seeds
  plan=true        print what would be done, and stop
  launcher=basic   basic: one run after the other; parallel: two at a time on this machine
                   (hydra.launcher.n_jobs= for more); slurm: as jobs (hydra.launcher.partition=...)

Everything else goes to run.py: task=, optim=, scale=, output_dir=, batch_size=, steps=, ...; several values, with
commas between them, are tuned each by itself. optim.lr= and optim.weight_decay= move the centre of the grid.
optim=all is lion and the six optimizers that it is compared with: adamw adafactor radam nadam adabelief amsgrad.
optim=field is adamw, lion and optimizers in use in 2026: muon muon_lion lion_muon soap
schedule_free_adamw ademamix mars adopt kron prodigy cautious_lion, all with the same number of trials. Their settings
other than learning rate and weight decay are their authors' defaults (docs/baselines.md).

examples:
  python scripts/tune.py task=vit_b16 optim=all launcher=parallel
  python scripts/tune.py task=vit_b16,resnet50 optim=lion,adamw rings=6 plan=true
  python scripts/tune.py task=vit_b16 optim=lion,adamw batch_size=16,64,256 launcher=parallel
"""
ALL = "adamw,lion,adafactor,radam,nadam,adabelief,amsgrad"
FIELD = "adamw,lion,muon,muon_lion,lion_muon,soap,schedule_free_adamw,ademamix,mars,adopt,kron,prodigy,cautious_lion"
GROUPS = {"optim=all": ALL, "optim=field": FIELD}
PROTOCOL = ("trials", "seeds", "first_seed", "trial_seed", "rings", "refine", "shortlist", "repeats")


def main(arguments: list[str]) -> int:
    """Hand the arguments on to run.py; returns its exit status."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return 0
    overrides = ["hydra/sweeper=tuning"]
    for argument in arguments:
        name, _, value = argument.partition("=")
        if argument in GROUPS:
            overrides.append(f"optim={GROUPS[argument]}")
        elif name == "launcher":
            overrides.append(f"hydra/launcher={value}")
        else:
            overrides.append(f"hydra.sweeper.{argument}" if name in PROTOCOL else argument)
    command = [sys.executable, str(RUN), "-m", *(text for text in overrides if text not in ("-m", "--multirun"))]
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
