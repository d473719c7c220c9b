"""Typed settings, the gateways and the experiments, and their loader. Never imports of ours, never reads at import."""
