"""`python -m eat_hf.cli`, which launchers of processes call."""

from .main import main

main()
