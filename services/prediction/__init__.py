"""Forecasts recurrence, calibrated and frozen."""
