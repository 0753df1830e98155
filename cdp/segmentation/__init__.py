"""What destinations may need to hear about: the fold from the change log to the activation log."""
