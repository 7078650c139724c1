"""Who is asking: signatures and signed bodies, sans-I/O."""
