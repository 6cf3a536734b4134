"""What is said: conversations read, tools chosen, answers worded and taken apart into events."""
