"""Errors of the RPC, with Solana's codes."""

from typing import Any


class RpcError(Exception):
    """A request that is answered with an error.

    Codes: -32700 no JSON, -32600 no request, -32601 unknown method, -32602 bad parameters, -32603 a fault of the node;
    of Solana's own -32002 preflight failed, -32003 false signature, -32005 node unhealthy, -32015 transaction version,
    -32016 slot not reached.
    """

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def json(self) -> dict[str, Any]:
        """The error object of a JSON-RPC response."""
        error = {"code": self.code, "message": self.message}
        return error if self.data is None else {**error, "data": self.data}


def invalid_params(message: str) -> RpcError:
    """The caller's parameters cannot be used."""
    return RpcError(-32602, message)


class ReplyLostError(Exception):
    """The request was carried out and its answer must not reach the caller (fault `drop_replies`)."""
