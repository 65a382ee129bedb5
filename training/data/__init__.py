"""What stages learn from."""
