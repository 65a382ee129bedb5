"""Trainings of networks that judge."""
