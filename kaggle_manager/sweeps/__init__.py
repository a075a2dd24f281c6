"""Sweeps: many runs of one scenario under other values, each decided on at its rungs."""
