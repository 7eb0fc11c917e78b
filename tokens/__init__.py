"""Single-use tokens, keys and origins: who may talk to which agent."""
