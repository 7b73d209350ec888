"""Whom each request speaks for, and what they may do by the rows as they are now."""
