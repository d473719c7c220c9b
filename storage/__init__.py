"""MongoDB: one module per collection, indexes declared once, read models. Never thresholds, never HTML."""
