"""Running queries in a process: from records that are read to bars that are committed.

Each file imports only files below it:

    runtime.py        all queries of a context in one process, and the maintenance of their log
    query_runtime.py  one query: its worker, its heartbeats, its standby, its health
    worker.py         one round after the other: poll, process, commit
    committing.py     when to commit, and what happens when that fails
    membership.py     which partitions are owned, and what happens when they move
    progress.py       how far a worker that was away has come
    tasks.py          the tasks of the owned partitions, started and committed together
    task.py           one partition: events and heartbeats in, bars out
    repartition.py    one partition of a source that is copied by group key
    standby.py        the state of other processes' partitions, kept ready
    output.py         what waits for the next commit: rows, and what to count
    dead_letters.py   what a partition cannot use, and where it came from
    state.py          the state of a task, its changelog, and what a task works with
    backlog.py        how buckets close in a long backlog without heartbeats
    input.py          in which order a task processes what it reads
    reading.py        how records come into the pipeline
    heartbeats.py     who sends heartbeats, when, and with which positions
    log_time.py       the time by the log's clock, and heartbeats that are ahead of it
    barrier.py        when heartbeats have to wait for events that are on their way
    planner.py        which heartbeats are due
    preparing.py      topics are created before anything runs, and deleted ones reported
    replacing.py      where a declaration begins that has replaced another, and which finals it may not make again
    generations.py    the declarations of queries in the log: whoever makes the same bars has declared them alike
    resuming.py       where a task goes on whose group has lost its position
    upgrading.py      positions that an older version of kandle has left
    schedule.py       schedules from their topic, judged key by key
    active_keys.py    the keys that should have events
    counters.py       counters and health, as plain objects
"""
