"""Train one model with one optimizer, or sweep over many: see README.md.

python run.py task=vit_b16 optim=lion
python run.py -m task=vit_b16 optim=lion,adamw optim.lr=1e-4,1e-3 seed=0,1,2
"""

from recipes.runs import startup

if __name__ == "__main__":
    startup.begin()  # before imports that take time

import hydra
from omegaconf import DictConfig

from recipes.runs import cli
from recipes.settings import schema

schema.register()


@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Hand the composed config on."""
    cli.run(cfg)


if __name__ == "__main__":
    cli.start(main)
