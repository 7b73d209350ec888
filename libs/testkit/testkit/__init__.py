"""Real servers, builders and laws for the tests."""
