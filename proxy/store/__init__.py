"""The stores: SQLite, embedded, is the default. Each keeps the promises of `proxy.model.store`."""
