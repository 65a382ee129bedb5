"""The command line, `eat-hf`."""
