"""Changes of existing rows: invoices, customers and prices."""
