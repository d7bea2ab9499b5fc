"""What the messages mean: bytes in, commands out. No clock, no I/O, no framework."""
