"""The query language: recorded expressions, signatures, stages, and the query model."""
