"""The networks of the paper, one module per component."""
