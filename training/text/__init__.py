"""Trainings for emotions in words."""
