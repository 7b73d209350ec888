"""Explanations of failures: from the read model's evidence, and by a model where one is configured."""
