"""Sources: what Causeloop knows of the tools that failures come from, as one manifest per type; pure."""
