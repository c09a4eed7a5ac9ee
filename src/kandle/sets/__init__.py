"""What users call on an open context: writing, consuming and reading entities and bars, blocking or async."""
