"""Measurements, never assertions: these machines are noisy, so each figure is a ratio taken in one run."""
