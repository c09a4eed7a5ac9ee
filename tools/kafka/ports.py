"""Loopback ports: which are free, and an error by name for one that is not."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

from tools.kafka.errors import PortInUseError

HOST = "127.0.0.1"
# Below those that systems hand out to clients: a client that retries while its broker is down may otherwise be given the broker's
# own port to connect from, and keep the broker from coming back.
CHOICE = range(20_000, 32_000)


def check_free(port: int) -> None:
    """PortInUseError if somebody listens at a port."""
    with socket.socket() as held:
        _hold(held, port)


def free_ports(count: int) -> list[int]:
    """So many different ports at which nobody listens."""
    ports: list[int] = []
    with ExitStack() as stack:
        while len(ports) < count:
            held = stack.enter_context(socket.socket())
            # The random numbers of the system: tests may seed those of Python, and then all would choose the same ports.
            port = random.SystemRandom().choice(CHOICE)
            try:
                _hold(held, port)
            except PortInUseError:
                continue
            ports.append(port)
    return ports


def _hold(held: socket.socket, port: int) -> None:
    # Java's servers do the same: connections of an earlier broker that are still closing do not count.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((HOST, port))
    except OSError as error:
        raise PortInUseError(
            f"{HOST}:{port} cannot be listened at: {error.strerror}; stop who uses it or give another port"
        ) from error
