"""What chinook_sim costs, as ratios within one run."""
