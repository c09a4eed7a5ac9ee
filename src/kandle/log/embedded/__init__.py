"""The embedded log: topics, consumer groups and atomic commits in one SQLite file, shared by any number of processes."""
