"""Forecasting as arithmetic: no I/O, no clock, no chance; times and numbers come in."""
