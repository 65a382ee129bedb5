"""Losses, about a file a kind."""
