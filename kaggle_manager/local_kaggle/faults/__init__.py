"""Fault injection for the local Kaggle: a plan of faults, played over its answers and its sessions."""
