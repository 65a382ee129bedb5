"""What every server for strangers needs, whatever it speaks: limits, turns, ends of work, and what may be told."""
