"""What a policy would have achieved on decisions that another one made. Never acts on a payment."""
