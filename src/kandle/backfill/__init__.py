"""Files of events in, files or frames of bars out."""
