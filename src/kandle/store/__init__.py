"""State of tasks: the store port, its adapters (memory, RocksDB), and the changelog."""
