"""Private RabbitMQ and MongoDB nodes for the demo and the tests. Never a server that somebody else started."""
