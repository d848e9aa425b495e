"""Messages and bytes: what travels, how it is written, signed and named."""
