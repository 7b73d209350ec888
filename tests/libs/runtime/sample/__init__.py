"""A small but whole service, run as a process by the tests of the runtime."""
