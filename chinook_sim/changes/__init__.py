"""Changes of rows that are there: sales, customers and prices."""
