"""One module per page: asks a read model, renders a template. Never a query, a statistic, or HTML in Python."""
