"""Sampling: rectified flow for the DiT, autoregression for the codes."""
