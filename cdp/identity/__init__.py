"""From events to people: which profile an event is about, what is known of it, and why."""
