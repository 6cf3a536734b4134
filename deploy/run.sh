#!/bin/sh
# What `make run` does: serve, with the offline sandbox as upstream where there is no OpenAI key. `framegate serve` itself never does that.
set -eu
BIN=${BIN:-.venv/bin}
if [ -n "${OPENAI_API_KEY:-}" ]; then
    exec "$BIN/framegate" serve
fi
cat >&2 <<'TXT'
*******************************************************************************
*  OPENAI_API_KEY is not set: the upstream is the offline SANDBOX.            *
*  It draws its own pictures and asks no model. Set the key for the real one. *
*******************************************************************************
TXT
"$BIN/framegate" sandbox --listen 127.0.0.1:8090 &
sandbox=$!
"$BIN/framegate" serve --config deploy/config/sandbox.toml &
serve=$!
# Both in the background: a shell hears a signal only once what runs in its foreground has ended.
trap 'kill "$serve" 2>/dev/null || true' INT TERM
trap 'kill "$sandbox" 2>/dev/null || true' EXIT
status=0
while kill -0 "$serve" 2>/dev/null; do
    wait "$serve" && status=0 || status=$?
done
exit "$status"
