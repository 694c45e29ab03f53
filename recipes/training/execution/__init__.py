"""How a run is carried out: settings that change speed and memory, not what is trained."""
