"""Moderation: what a model is about to read is judged before it leaves, pictures like words, and nothing is skipped."""
