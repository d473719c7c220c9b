"""The payments world on which the system is tried. Never knowledge of the actors, the storage or the web."""
