"""The REST interface of ksqlDB: statements, queries, inserts."""
