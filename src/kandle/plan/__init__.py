"""What follows from a query: timeframes, roll-up edges, and the list of its topics."""
