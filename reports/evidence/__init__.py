"""What others found: published runs of Lion and its rivals, and what follows from them (docs/evidence.md)."""
