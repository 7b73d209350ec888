"""Turns reported failures into issues."""
