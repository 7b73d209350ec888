"""Pure computation of the gateway: what failures have in common, in words that can be checked."""
