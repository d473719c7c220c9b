"""A/B tests of routing policies: design, assignment and statistics. Never I/O, never the wall clock."""
