"""The query language as KSQL: queries become the text of a script. Nothing here talks to a server.

The way of a query to its text. Each file imports only files below it:

    script.py          entities + queries -> Script: settings, declarations, one program per query
      live.py            query -> Program in role "live": ksqlDB keeps open bars, kandle makes the finals
      all.py             query -> Program in role "all": ksqlDB makes the finals as well
        heartbeats.py      rows that close the windows: the query rewritten for them
        filling.py         bars in whose gaps the last values are carried on
      plain.py           query -> Program without a window: a row per event or per key
        levels.py          tables of finals, and the partial columns that are rolled up
        targets.py         the target's columns and the properties of its topics
        program.py         what a program is: statements, notes; roles, window clauses
        events.py          the rows that a query reads
          sessions.py        .. beside the sessions of their key
          joins.py           .. beside rows of another entity; a key of several parts as one text
          streams.py         a stream created from another one
            declarations.py    entities as CREATE STREAM and CREATE TABLE
    aggregates.py      aggregates, one row of a table for each
      sums.py            sums, averages and deviations
      partials.py        what is kept of a bucket; counts, times, first and last values
    expressions.py     expressions: nodes of the query tree -> terms
      texts.py           functions of texts, one row of a table for each
      times.py           .. of instants
      numbers.py         .. of numbers
      conditions.py      .. comparisons, AND, OR, NOT, tests for NULL
        operators.py       literals, arithmetic, comparisons, casts and calls, with the types of their results
          functions.py       ksqlDB's functions and their signatures (functions.csv)
            terms.py           a piece of KSQL text, with its type and where it is NULL
    statements.py      statements, and their layout
      types.py           names in backticks, names of topics, types of columns
"""
