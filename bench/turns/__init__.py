"""How well does a turn detector take turns? Recorded and synthetic conversations, replayed in virtual time."""
