"""What follows from a query: its timeframes, its topics, and an explanation of both; no file here does any I/O.

Each file imports only files below it:

    explain.py       a plan as text
    declaration.py   what a query declares, as far as its bars depend on it
    query_topics.py  the topics of a query: the only derivation of their names, settings and encodings
    topics.py        what a topic is; the topics whose records are kandle's own
    plan.py          the timeframes of a query, what each is made from, and when its buckets close
"""
