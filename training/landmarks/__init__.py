"""The network that finds the 68 landmarks of faces in pictures."""
