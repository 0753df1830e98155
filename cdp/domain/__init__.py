"""What the words mean: events, identifiers, profiles, changes. Pure: no I/O, no Trio."""
