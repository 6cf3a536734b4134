"""The operator's commands on what is stored: what may be typed. What they do is loaded when one is run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

CONFIG = "the config file (TOML), for its store and its groups; without one: the store in the XDG state folder"
DECISIONS = ("passed", "flagged", "blocked", "allowed", "unseen", "unchecked", "provider")
KEYS = "inference, stored, batches, fine-tuning, client-secrets, organization, *"


def register(commands: Any) -> None:
    """Add them to the subparsers of `framegate`."""

    def group(name: str, text: str) -> Any:
        one = commands.add_parser(name, help=text[0].lower() + text[1:].partition(".")[0], description=text)
        return one.add_subparsers(required=True, metavar="COMMAND")

    def command(under: Any, act: str, text: str) -> argparse.ArgumentParser:
        short = text[0].lower() + text[1:].partition(".")[0]
        one: argparse.ArgumentParser = under.add_parser(act.partition(" ")[2], help=short, description=text)
        one.set_defaults(run=run, act=act)
        one.add_argument("--config", type=Path, metavar="FILE", help=CONFIG)
        return one

    keys = group("keys", "Make, list, rotate and revoke the keys that callers use.")
    one = command(keys, "keys create", "Make a key. It is shown once, alone on standard output; only a hash is kept.")
    one.add_argument("name", metavar="NAME", help="what people call it")
    one.add_argument("--group", metavar="G", help="one of the config's [groups]")
    one.add_argument("--endpoints", metavar="A,B", help=f"what it may use (default: inference): {KEYS}")
    one.add_argument("--expires", metavar="TIME", help='when it ends by itself, as in "30d" (default: never)')
    one.add_argument("--tag", metavar="K=V", action="append", default=[], help="a note for people; may be repeated")
    one.add_argument("--models", metavar="GLOB,...", help="the models it may use, as in gpt-image-* (default: all)")
    what = "of this key alone, as in 'images=20 / 1m' or 'budget=25 USD / month'; may be repeated"
    one.add_argument("--limit", metavar="WHAT=MOST", action="append", default=[], help=what)
    what = 'what becomes of pictures in its answers, whatever the plugin "rehost" says'
    one.add_argument("--rehost", choices=("on-request", "always", "never"), help=what)
    one = command(keys, "keys list", "Show all keys, those that the config declares among them. No secret, no hash.")
    one.add_argument("--json", action="store_true", help="for programs")
    one = command(keys, "keys rotate", "Give a key a new text, shown once. The old text is valid for a while.")
    one.add_argument("id", metavar="ID", help="as keys list shows it")
    one.add_argument("--grace", metavar="TIME", default="24h", help="how long; 0s: not at all (default: %(default)s)")
    one = command(keys, "keys revoke", "End a key for good. It is dead everywhere within 5 seconds.")
    one.add_argument("id", metavar="ID", help="as keys list shows it")

    secrets = group("secrets", 'Keep secrets encrypted in the store; the config names them as "secret:NAME".')
    one = command(
        secrets, "secrets set", "Keep a secret, read from standard input or asked for. An older one is replaced."
    )
    one.add_argument("name", metavar="NAME", help='what stands behind "secret:" in the config')
    one.add_argument("value", nargs="*", help=argparse.SUPPRESS)  # taken to be refused without being repeated
    command(secrets, "secrets list", "Show the names of the secrets.")
    one = command(secrets, "secrets delete", "Forget a secret.")
    one.add_argument("name", metavar="NAME", help="as secrets list shows it")
    command(secrets, "secrets rotate", "Encrypt all anew under the newest master key.")

    images = group("images", "Look after the pictures that are kept.")
    one = command(images, "images list", "Show all pictures that a name leads to, with their owners and their ends.")
    one.add_argument("--owner", metavar="ID", help="those of this caller alone; as keys list shows it")
    one.add_argument("--json", action="store_true", help="for programs")
    one = command(images, "images show", "Show all that is known of a picture, its file and a link to it among it.")
    one.add_argument("name", metavar="NAME", help="its name, or its URL")
    one.add_argument("--json", action="store_true", help="for programs")
    one = command(images, "images delete", "End names. A picture's bytes go with the last name that leads to them.")
    one.add_argument("names", metavar="NAME", nargs="+", help="a name, or a URL")
    one = command(images, "images gc", "Clear away now what is done from time to time: files that no name needs.")
    one.add_argument("--json", action="store_true", help="for programs")
    one = command(
        images, "images verify", "Read all pictures and compare them with their sums. Exit status 1 on a fault."
    )
    one.add_argument("--json", action="store_true", help="for programs")

    moderation = group("moderation", "Look at what moderation decided, and let pass what it was wrong about.")
    since = 'those of this last time, as in "1d" or "2h"'
    prompts = "with the prompts, where they were kept (keep_prompts)"
    hash = "as moderation list shows it; its first digits do, 8 or more, where nothing else begins so"
    one = command(moderation, "moderation list", "Show what was decided, the newest first.")
    one.add_argument("--since", metavar="TIME", help=since)
    one.add_argument("--caller", metavar="ID", help="those of this caller alone; as keys list shows it")
    one.add_argument("--decision", choices=DECISIONS, help="those alone that ended so")
    one.add_argument("--limit", metavar="N", type=int, default=50, help="at most so many (default: %(default)s)")
    one = command(moderation, "moderation show", "Show all that is kept of one request.")
    one.add_argument("id", metavar="ID", help="of the request, which its answer has as x-framegate-id")
    one.add_argument("--prompts", action="store_true", help=prompts)
    one = command(moderation, "moderation export", "Write all that was decided to standard output, the newest first.")
    one.add_argument("--since", metavar="TIME", help=since)
    one.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="(default: %(default)s)")
    one.add_argument("--prompts", action="store_true", help=prompts)
    one = command(moderation, "moderation allow", "Let pass what was judged wrongly, now and later.")
    one.add_argument("hash", metavar="HASH", help=hash)
    one.add_argument("--note", metavar="TEXT", default="", help="a word for people, such as who looked at it")
    command(moderation, "moderation allowed", "Show what is allowed.")
    one = command(moderation, "moderation deny", "Take back what was allowed: it is judged again.")
    one.add_argument("hash", metavar="HASH", help=hash.replace("list", "allowed"))

    store = group("store", "Look after the store.")
    one = command(store, "store backup", "Copy the store, which may be in use, to a new file.")
    one.add_argument("file", type=Path, metavar="FILE", help="the new file; an existing one is never overwritten")

    text = "Follow one image request from end to end, offline. No key, no bill."
    one = commands.add_parser("demo", help=text[0].lower() + text[1:].partition(".")[0], description=text)
    one.set_defaults(run=show)
    one.add_argument("--prompt", metavar="TEXT", default="a lychgate in the rain", help="what to draw: %(default)s")
    one.add_argument("--save", type=Path, metavar="FILE", default=Path("framegate-demo.png"), help="to %(default)s")


def show(options: argparse.Namespace) -> int:
    """Run the demo; returns the exit status."""
    import sys

    from .demo import run
    from .ground import Refused

    try:
        return run(options)
    except Refused as error:
        print(f"framegate: {error}", file=sys.stderr)
    except OSError as error:
        print(f"framegate: {error.filename or options.save}: {error.strerror or error}", file=sys.stderr)
    return 1


def run(options: argparse.Namespace) -> int:
    """Do what `options.act` names; returns the exit status."""
    import gc
    import sqlite3
    import sys

    from ..core.config import ConfigError
    from ..model.images import ImageStoreError
    from ..model.store import StoreError
    from . import images, keys, moderation, secrets
    from .ground import Refused, config

    gc.disable()  # of a list of 100,000 keys a third of the time went into looking for rubbish
    try:
        commands = {**keys.COMMANDS, **secrets.COMMANDS, **images.COMMANDS, **moderation.COMMANDS}
        commands[options.act](config(options.config), options)
    except BrokenPipeError:
        raise
    except (ConfigError, StoreError, ImageStoreError, Refused) as error:
        told = isinstance(error, StoreError) or isinstance(error.__cause__, sqlite3.Error)
        why = f" ({error.__cause__})" if told and str(error.__cause__ or "") else ""
        print(f"{error}{'' if why[2:-1] in str(error) else why}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or 'framegate'}: {error.strerror or error}", file=sys.stderr)
        return 1
    finally:
        gc.enable()
    return 0
