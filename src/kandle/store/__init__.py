"""State of tasks: the store port with its adapters, and the changelog.

Each file imports only files below it:

    changelog.py  snapshots and changes in a topic, and their copy in a store
    rocks.py      a store in a folder, by RocksDB
    memory.py     a store that ends with its process
    port.py       what a store is
"""
