"""May this be processed, for this purpose, now? Below delivery, so that nothing goes around it."""
