"""Metrics, trivial baselines and reports."""
