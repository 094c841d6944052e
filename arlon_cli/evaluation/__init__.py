"""How good videos are, how good the parts of a model are, and how fast."""
