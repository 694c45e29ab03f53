"""Optimizers that Lion is compared with and that no library has in the variant needed.

All others are library classes, named with their settings in conf/optim. docs/baselines.md lists them together.
"""

from baselines.adam import AMSGrad, NAdamW
from baselines.ademamix import AdEMAMix
from baselines.kron import Kron
from baselines.lion_muon import LionMuon
from baselines.prodigy import Prodigy
from baselines.sgdw import SGDW
from baselines.signs import AddSign, PowerSign
from baselines.soap import SOAP

__all__ = ["SGDW", "SOAP", "AMSGrad", "AdEMAMix", "AddSign", "Kron", "LionMuon", "NAdamW", "PowerSign", "Prodigy"]
