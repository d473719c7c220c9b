"""Which gateway for a payment: eligibility, estimates, policies, rankings. Never I/O, clock, messages or settings."""
