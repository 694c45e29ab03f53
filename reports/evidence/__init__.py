"""Published results of other studies on Lion and its baselines, and what follows from them (docs/evidence.md)."""
