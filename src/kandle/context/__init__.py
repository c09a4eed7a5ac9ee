"""Contexts and their options. The only package that picks adapters: which log, which store, which engine."""
