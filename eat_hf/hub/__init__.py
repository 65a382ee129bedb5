"""The Hugging Face Hub: folders, cards."""
