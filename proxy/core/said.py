"""What tables say of their values in the same words."""

from __future__ import annotations

from pathlib import Path


def certificates(path: Path) -> None:
    """Raise ValueError for a file that holds no certificates in PEM form."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=str(path))
    except ssl.SSLError as exc:
        raise ValueError(f"ca_file {path} holds no certificate in PEM form") from exc
    except OSError as exc:
        raise ValueError(f"ca_file {path} can't be read: {exc.strerror}") from exc


def longer_than_nothing(table: object, *names: str) -> None:
    """Raise ValueError where one of these durations is none."""
    for name in names:
        if getattr(table, name) <= 0:
            raise ValueError(f"{name} must be longer than nothing")


def at_least_one(table: object, *names: str) -> None:
    """Raise ValueError where one of these numbers is below 1."""
    for name in names:
        if getattr(table, name) < 1:
            raise ValueError(f"{name} must be at least 1")
