"""The control plane: admin and profile API."""
