"""`causeloop up`: everything that one machine needs, as one process with children."""
