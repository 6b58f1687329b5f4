"""What is written of the objects that were found or tracked: a file for each format."""
