"""`python -m chinook_sim` is `chinook-sim`."""

from chinook_sim.cli import main

main()
