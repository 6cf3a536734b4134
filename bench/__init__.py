"""The bench: what Framegate costs, beside others in the same run. Not part of the wheel."""
