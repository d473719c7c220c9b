"""What is unwell in the traffic of payments, since when, and whose fault it looks like? Sequential statistics.

Start reading at ``detector`` (attempts in, anomalies out) and ``channels`` (what is watched); ``metric`` scores any
single series with ``score(value, timestamp)``. Never here: messages, clocks, databases, thresholds that nobody can
explain.
"""
