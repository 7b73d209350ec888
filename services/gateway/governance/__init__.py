"""Jobs that go on by themselves: exports, retention, and the erasure of workspaces."""
