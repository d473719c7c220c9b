"""The web: pages, REST and the live dashboard. Never statistics, never MongoDB queries of its own."""
