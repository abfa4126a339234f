"""Entry point: `python -m deploy.local.scripted_llm --port P`."""

import argparse
import sys

import uvicorn

from deploy.local.scripted_llm.app import NOTICE, create_app


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="scripted_llm", description=f"The OpenAI API, answered by {NOTICE}.")
    parser.add_argument("--port", type=int, required=True, help="on the loopback")
    arguments = parser.parse_args()
    sys.stderr.write(f"The embedded scripted LLM at http://127.0.0.1:{arguments.port}/v1 is {NOTICE}.\n")
    uvicorn.run(
        create_app(),
        host="127.0.0.1",
        port=arguments.port,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()
