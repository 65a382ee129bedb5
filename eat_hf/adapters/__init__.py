"""Emotion adapters: small add-ons to a frozen talking head."""
