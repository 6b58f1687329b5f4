"""What `hub_upload.py` does: assemble a Hub repository, check it in a clean process, and push it in one commit."""
