"""What is kept on this machine: the state of tasks with its changelog, and copies of topics.

Each file imports only files below it:

    rows.py       the newest row of each key of a topic, for tables
    runs.py       rows that are written once, in sorted runs, for finals
    follower.py   a copy of a topic that is kept current
    changelog.py  snapshots and changes in a topic, and their copy in a store
    rocks.py      a store in a folder, by RocksDB
    memory.py     a store that ends with its process
    ordering.py   keys as bytes whose order is that of the rows
    port.py       what a store is
"""
