"""The price book. What it begins with is `seed.toml`: data, which others may read without importing code of ours."""
