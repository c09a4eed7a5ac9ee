"""Entities: markers, fields, data types, and the mapping between objects, frames and records."""
