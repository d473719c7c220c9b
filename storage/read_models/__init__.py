"""Read models: what pages and charts ask of the store, typed and bounded. Never writes, HTML or thresholds."""
