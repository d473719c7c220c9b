"""Messages, the topology of the line, and the awaitable layer over pika. Never business rules, never MongoDB."""
