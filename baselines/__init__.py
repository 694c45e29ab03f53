"""The optimizers that Lion is compared with, where no library has the variant that the comparison needs.

All others are library classes, named with their settings in conf/optim. docs/baselines.md lists them together.
"""

from baselines.adam import AMSGrad, NAdamW
from baselines.sgdw import SGDW
from baselines.signs import AddSign, PowerSign

__all__ = ["SGDW", "AMSGrad", "AddSign", "NAdamW", "PowerSign"]
