"""Simulated streams as a worker hears them, with their truth: what thresholds are chosen on."""
