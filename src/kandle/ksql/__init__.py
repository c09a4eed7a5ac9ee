"""The query as KSQL, and the ksqlDB that runs it."""
