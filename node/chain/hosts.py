"""Names of hosts, as the system's resolver takes them."""


def resolvable(host: str) -> str | bytes:
    """The name in bytes if it has only ASCII letters, as nearly all do.

    To look up a text, Python reads its tables of all other alphabets, also for a mere address.
    """
    return host.encode() if host.isascii() else host
