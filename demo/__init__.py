"""A small shop's week, played through a real SDK: `make demo`."""
