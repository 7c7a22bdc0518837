"""The ledger: what is recorded of each run."""
