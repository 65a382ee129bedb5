"""Experiments on trained checkpoints: the paper's tables and figures, portraits, speed."""
