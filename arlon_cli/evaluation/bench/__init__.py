"""How fast a model is, beside what the machine can do at most."""
