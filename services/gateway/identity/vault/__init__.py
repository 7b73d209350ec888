"""Secrets that have to be read again: sealed with a data key per owner, which the master key wraps."""
