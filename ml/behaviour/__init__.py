"""How shoppers behave when a payment fails: orders rebuilt from attempts, what they do next, what kinds there are."""
