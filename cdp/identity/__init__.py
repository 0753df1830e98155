"""Events become profiles: the fold from the event log to the change log."""
