"""Corpora of real videos."""
