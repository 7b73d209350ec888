"""Ranks remediations for each pattern."""
