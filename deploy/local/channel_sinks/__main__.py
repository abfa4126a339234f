"""Entry point: `python -m deploy.local.channel_sinks --port P --smtp-port P --state-dir DIR`."""

import argparse
import asyncio
from pathlib import Path

import uvicorn
from aiosmtpd.smtp import SMTP

from deploy.local.channel_sinks.sinks import MailServer, Sinks, app

_HOST = "127.0.0.1"


async def serve(port: int, smtp_port: int, state_dir: Path) -> None:
    """Serve until SIGINT or SIGTERM."""
    sinks = Sinks(state_dir / "deliveries.jsonl")
    mail = await asyncio.get_running_loop().create_server(
        lambda: SMTP(MailServer(sinks), hostname="sink.example", ident="embedded sink"), _HOST, smtp_port
    )
    config = uvicorn.Config(
        app(sinks), host=_HOST, port=port, lifespan="off", ws="none", log_level="warning", access_log=False,
        server_header=False, headers=[("X-Clotho-Embedded", "made by Clotho's embedded channel sinks")],
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    async with mail:
        await uvicorn.Server(config).serve()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="channel_sinks", description="Keep messages instead of delivering them.")
    parser.add_argument("--port", type=int, required=True, help="HTTP, on the loopback")
    parser.add_argument("--smtp-port", type=int, required=True, help="mail, on the loopback")
    parser.add_argument("--state-dir", type=Path, required=True, help="keeps what was delivered")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.port, arguments.smtp_port, arguments.state_dir))


if __name__ == "__main__":
    main()
