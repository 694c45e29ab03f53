"""The program search that discovered Lion: optimizers as programs, found by evolution. Needs numpy beside torch."""

from lion.discovery.language.program import Program, ProgramError, load, parse, render
from lion.discovery.optimizer import ProgramOptimizer

__all__ = ["Program", "ProgramError", "ProgramOptimizer", "load", "parse", "render"]
