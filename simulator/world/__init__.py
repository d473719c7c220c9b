"""The world itself, pure: shoppers, issuers, gateways, incidents. Never I/O, a clock or global randomness."""
