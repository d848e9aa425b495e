"""The pure cores: events in, commands and answers out; no clock, no chance, no I/O."""
