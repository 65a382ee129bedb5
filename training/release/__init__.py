"""Runs become a checkpoint, and a checkpoint runs."""
