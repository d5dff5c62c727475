"""What the networks remember between two runs of the daemon: themselves, and who has which address.

One SQLite file, ``<root>/network/networks.db``. The primary key on (network, address) is what keeps two containers from
ever having one address, whatever else goes wrong.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from dataclasses import asdict
from typing import Any

import msgspec

from pyker.errors import Conflict, SystemFailure
from pyker.networkdriver.base import Network
from pyker.types.ids import NetworkId

_SCHEMA = """
CREATE TABLE IF NOT EXISTS networks (id TEXT PRIMARY KEY, name TEXT UNIQUE NOT NULL, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS addresses (
  network TEXT NOT NULL, address TEXT NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (network, address)
) STRICT, WITHOUT ROWID;
"""


class NetworkStore:
    """The database. Thread-safe. A killed daemon loses nothing; a power cut may lose the last addresses.

    That is right for addresses: containers do not survive it either.
    """

    def __init__(self, root: str) -> None:
        folder = os.path.join(root, "network")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._lock = threading.Lock()
        path = os.path.join(folder, "networks.db")
        try:
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise SystemFailure(f"the store of networks {path!r} cannot be opened: {error}") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def networks(self) -> list[Network]:
        """Every network, oldest first."""
        rows = self._execute("SELECT value FROM networks ORDER BY rowid")
        return [msgspec.json.decode(row[0], type=Network) for row in rows]

    def put_network(self, network: Network) -> None:
        """Add a network, or replace the one with its ID. Raises Conflict if the name is taken by another."""
        value = msgspec.json.encode(asdict(network)).decode()
        self._execute(
            "INSERT INTO networks VALUES (?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET name = excluded.name, value = excluded.value",
            (network.id, network.name, value),
            taken=f"network with name {network.name} already exists",
        )

    def delete_network(self, network: NetworkId) -> None:
        """Forget a network and its addresses."""
        self._execute("DELETE FROM addresses WHERE network = ?", (network,))
        self._execute("DELETE FROM networks WHERE id = ?", (network,))

    def addresses(self, network: NetworkId) -> dict[str, str]:
        """Address -> owner."""
        return dict(self._execute("SELECT address, owner FROM addresses WHERE network = ?", (network,)))

    def take(self, network: NetworkId, address: str, owner: str) -> None:
        """Note that ``owner`` has ``address``. Raises Conflict if somebody has it."""
        self._execute(
            "INSERT INTO addresses VALUES (?, ?, ?)", (network, address, owner), taken="Address already in use"
        )

    def drop(self, network: NetworkId, address: str) -> None:
        """Note that nobody has ``address``."""
        self._execute("DELETE FROM addresses WHERE network = ? AND address = ?", (network, address))

    def _execute(self, statement: str, values: tuple[str, ...] = (), *, taken: str = "") -> list[Any]:
        try:
            with self._lock:
                return self._database.execute(statement, values).fetchall()
        except sqlite3.IntegrityError as error:
            raise Conflict(taken or str(error)) from error
        except sqlite3.Error as error:
            raise SystemFailure(f"the store of networks: {error}") from error
