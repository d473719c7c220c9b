"""What routing earned and missed, told afterwards: regret, the price of exploring, uplift against the control slice."""
