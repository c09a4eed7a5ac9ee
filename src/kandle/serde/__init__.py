"""Records as bytes: Avro, JSON, Kafka primitives, schemas and their registry."""
