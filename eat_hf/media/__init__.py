"""Pictures, recordings and videos: the one place that touches such files."""
