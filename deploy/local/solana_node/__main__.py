"""Run the node: `python -m deploy.local.solana_node --port 8899 --state-dir DIR`."""

import argparse
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from deploy.local.solana_node.bank import Bank
from deploy.local.solana_node.ledger import Ledger
from deploy.local.solana_node.rpc import Rpc
from deploy.local.solana_node.server import build_app

HOST = "127.0.0.1"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="solana_node", description="A local stand-in for a Solana RPC node.")
    parser.add_argument(
        "--port", type=int, default=8899, help="on 127.0.0.1; 0 takes a free one (default: %(default)s)"
    )
    parser.add_argument("--state-dir", type=Path, required=True, help="where the ledger is kept")
    parser.add_argument("--slot-ms", type=int, default=400, help="length of a slot (default: %(default)s ms)")
    parser.add_argument(
        "--finalize-after", type=int, default=4, help="slots until a transaction is final (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if arguments.slot_ms < 1 or arguments.finalize_after < 2:
        parser.error("--slot-ms must be at least 1 and --finalize-after at least 2, since `confirmed` comes before it.")
    return arguments


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    arguments = _arguments()
    try:
        # Listening before the node is ready makes the first client wait instead of failing.
        listener = socket.create_server((HOST, arguments.port))
    except OSError as error:
        sys.exit(f"Port {arguments.port} on {HOST} cannot be used ({error.strerror}): stop what uses it or set --port.")
    try:
        arguments.state_dir.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(arguments.state_dir / "ledger.sqlite3")
    except (OSError, sqlite3.Error) as error:
        sys.exit(f"{arguments.state_dir} cannot be used ({error}): stop the node that uses it or set --state-dir.")
    bank = Bank(ledger, slot_ms=arguments.slot_ms, finalize_after=arguments.finalize_after)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sys.stdout.write(
            f"Solana stand-in (LiteSVM) on http://{HOST}:{listener.getsockname()[1]}, slot {bank.slot}, state in "
            f"{arguments.state_dir}\n"
        )
        sys.stdout.flush()
        yield
        ledger.close()

    config = uvicorn.Config(
        build_app(Rpc(bank), lifespan), log_level="warning", access_log=False, timeout_graceful_shutdown=2
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
