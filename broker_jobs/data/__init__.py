"""Values that are too large for messages."""
