"""Generators: the event contract as Python and AsyncAPI, SQL as typed queries."""
