"""The embedded log: topics, consumer groups and atomic commits in one SQLite file, shared by any number of processes.

Each file imports only files below it:

    log.py           the log: appends, reads, groups, maintenance
    repair.py        damage is found, and what is sound is saved
    compaction.py    retention deletes old batches, compaction all but the newest record of each key
    consumer.py      a consumer polls, and commits positions together with records
    keeping.py       a lease is renewed while its owner works
    membership.py    which partitions a member of a group owns: leases and epochs
    connection.py    the parts of one connection
    notification.py  readers are told of commits, by named pipes or by asking the database
    batches.py       appended records as rows of the file
    given_bytes.py   records that are given as bytes: those that are no rows are kept beside them
    catalog.py       the topics
    database.py      the SQLite file: tables, transactions, what its errors mean
"""
