"""A query computed on columns: expressions, aggregates, bars, and the pipeline of a partition. No I/O."""
