"""The libvirt-python binding, or a text that says how to get it. Everything of ours imports it from here."""

from __future__ import annotations

try:
    import libvirt
except ImportError as error:
    raise ImportError(
        "libvirt-python is not installed; apt-get install libvirt-dev pkg-config gcc && "
        "pip install 'cloudctl[libvirt]'"
    ) from error

__all__ = ["libvirt"]


def _ignore_error(_context: object, _error: object) -> None:
    """Take an error that is also raised."""


# Errors arrive as exceptions; by default libvirt prints them on stderr as well.
libvirt.registerErrorHandler(_ignore_error, None)
