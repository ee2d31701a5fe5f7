"""What `unsup_meta.py` is written in: one idea a file."""
