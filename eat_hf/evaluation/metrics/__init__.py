"""What is measured, about a file a metric."""
