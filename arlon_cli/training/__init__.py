"""Training: one file per part, one shared loop, one recipe for all of them."""
