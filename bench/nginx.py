"""nginx, as the fast upstream and as a proxy to compare with: one process, its own folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import bodies
from .rig import Command, RigError

MISSING = "nginx is not installed: apt-get install nginx (the service need not run)"

COMMON = """\
daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 16384;
pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 16384; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; server_tokens off;
  keepalive_requests 1000000000; keepalive_timeout 3600s; client_max_body_size 0;
  client_body_temp_path {folder}/up; proxy_temp_path {folder}/down; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
"""
UPSTREAM = """\
  open_file_cache max=16;
  server {{
    listen 127.0.0.1:{port} backlog=4096; root {folder}; default_type application/json;
    location = /v1/chat/completions {{ return 200 '{small}'; }}
    location = /v1/images/generations {{ error_page 405 =200 /$arg_bytes.json; return 405; }}
    location = /v1/moderations {{ proxy_pass http://127.0.0.1:{slow}; }}
    location = /v1/broken {{ return 500 '{{}}'; }}
  }}
}}
"""
PROXY = """\
  upstream behind {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout 600s;
    location / {{ proxy_pass http://behind; }}
  }}
}}
"""
KEPT = """\
  server {{
    listen 127.0.0.1:{port} backlog=4096; root {folder}; types {{ image/png png; }}
    location /files/ {{ }}
    location / {{ return 200 '{small}'; }}
  }}
}}
"""
FRONT = """\
  upstream behind {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    proxy_http_version 1.1; proxy_set_header Connection "";
    location / {{ proxy_pass http://behind; }}
    location /internal/ {{ internal; alias {images}/; }}
  }}
}}
"""


def program() -> str:
    """Where nginx is. Raises RigError with what to install."""
    if found := shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin"):
        return found
    raise RigError(MISSING)


def upstream(folder: Path, port: int, images: tuple[int, ...], slow: int) -> Command:
    """An upstream that answers from memory and from files that it has open; the slow one judges for it."""
    for size in images:
        _folder(folder).joinpath(f"{size}.json").write_bytes(bodies.image_answer(size))
    return _command(_folder(folder), COMMON + UPSTREAM, port=port, slow=slow, small=bodies.SMALL_ANSWER.decode())


def proxy(folder: Path, port: int, upstream: int) -> Command:
    """nginx with its default buffers; the streaming upstream says that its streams are not to be buffered."""
    return _command(_folder(folder), COMMON + PROXY, port=port, upstream=upstream)


def files(folder: Path, port: int) -> Command:
    """nginx that has the pictures in FOLDER/files, and opens them anew each time as we do."""
    return _command(folder, COMMON + KEPT, port=port, small=bodies.SMALL_ANSWER.decode())


def before(folder: Path, port: int, behind: int, images: Path) -> Command:
    """nginx in front of Framegate, which names the files that it is to send."""
    return _command(folder, COMMON + FRONT, port=port, upstream=behind, images=images)


def _folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _command(folder: Path, template: str, **values: object) -> Command:
    path = folder / "nginx.conf"
    path.write_text(template.format(folder=folder, **values))
    return Command((program(), "-p", folder, "-e", "stderr", "-c", path), folder)
