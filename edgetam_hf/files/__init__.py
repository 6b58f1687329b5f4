"""Reading what strangers wrote, and writing whole or not at all."""
