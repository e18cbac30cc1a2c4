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
