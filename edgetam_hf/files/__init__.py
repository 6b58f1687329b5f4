"""Reading files of others without trust, and writing files whole or not at all."""
