"""Figures of every hot path: `python -m bench`. README.md here says how to read them."""
