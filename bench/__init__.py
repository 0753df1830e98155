"""Figures of every hot path. `python -m bench` runs them all; README.md here says how to read them."""
