"""What is written of found and of tracked objects, a file for each format."""
