"""What the engine ``rules`` knows: one table of questions and answers for each language."""
