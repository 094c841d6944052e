"""Evaluation: metrics, reports, benchmark."""
