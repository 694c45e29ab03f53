"""Settings that change the speed and memory of a run, but not what is trained."""
