"""The control plane: the profile API and what an operator asks and orders."""
