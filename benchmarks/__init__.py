"""What measures speed and quality against peers, printing JSON; never a test that passes or fails."""
