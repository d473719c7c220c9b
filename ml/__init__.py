"""The thinking, pure: failures, anomalies, routing, experiments. Never I/O, clock, global randomness or settings."""
