"""The live charts: a Bokeh server of its own. Reads only the live figures; never the store, never the broker."""
