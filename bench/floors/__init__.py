"""Proxies to compare with, each a page: `python -m bench.floors.NAME PORT UPSTREAM-PORT`."""
