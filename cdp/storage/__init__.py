"""The only code that touches a disk: the store, the logs, the opening protocol."""
