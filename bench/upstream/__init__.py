"""The two upstreams: nginx, which is very fast, and a small one of ours that streams, holds and counts."""
