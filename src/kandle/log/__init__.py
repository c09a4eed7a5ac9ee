"""The log port, its records and schemas. Adapters: `log.embedded` (a SQLite file) and `log.kafka` (a cluster)."""
