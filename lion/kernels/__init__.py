"""Lion's step in one pass over memory, one file a backend. Nothing is compiled before a first step asks for it."""
