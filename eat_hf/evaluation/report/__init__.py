"""What an evaluation found, for files, terminals, cards and browsers."""
