"""The built-in plugins. Each imports `proxy.api` and nothing else of ours; none has privileges."""
