"""What is drawn, without a database and without a clock: sales, profiles, arrivals, people."""
