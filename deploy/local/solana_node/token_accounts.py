"""`jsonParsed` for mints and accounts of the Token and Token-2022 programs, in the shape of Agave's account decoder.

Token-2022 appends extensions as type-length-value entries; those that carry names and pointers are decoded, any other
one is answered as `unparseableExtension`, as Agave does for those it does not know.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from construct import (
    Bytes,
    ConstructError,
    GreedyBytes,
    GreedyRange,
    Int16ul,
    Int32ul,
    PascalString,
    Prefixed,
    PrefixedArray,
    Sequence,
    Struct,
)
from solders.account import Account
from solders.pubkey import Pubkey
from solders.token.state import Mint, TokenAccount, TokenAccountState
from spl.token.constants import TOKEN_2022_PROGRAM_ID, TOKEN_PROGRAM_ID

PROGRAMS = {TOKEN_PROGRAM_ID: "spl-token", TOKEN_2022_PROGRAM_ID: "spl-token-2022"}

MINT_SIZE = 82
ACCOUNT_SIZE = 165
TYPE_OFFSET = 165
"""Where an account with extensions says what it is: a mint is padded to the size of a token account."""
MINT_TYPE = 1
ACCOUNT_TYPE = 2

_STRING = PascalString(Int32ul, "utf8")
_EXTENSIONS = GreedyRange(Struct("type" / Int16ul, "value" / Prefixed(Int16ul, GreedyBytes)))
_METADATA_POINTER = Struct("authority" / Bytes(32), "metadata_address" / Bytes(32))
_TOKEN_METADATA = Struct(
    "update_authority" / Bytes(32),
    "mint" / Bytes(32),
    "name" / _STRING,
    "symbol" / _STRING,
    "uri" / _STRING,
    "additional_metadata" / PrefixedArray(Int32ul, Sequence(_STRING, _STRING)),
)


def mint_of(account: Account | None) -> Mint | None:
    """The mint in the account, or None when it holds none."""
    if account is None or account.owner not in PROGRAMS or not _is(account.data, MINT_SIZE, MINT_TYPE):
        return None
    try:
        return Mint.from_bytes(account.data[:MINT_SIZE])
    except ValueError:
        return None


def token_account_of(account: Account | None) -> TokenAccount | None:
    """The token account in the account, or None when it holds none."""
    if account is None or account.owner not in PROGRAMS or not _is(account.data, ACCOUNT_SIZE, ACCOUNT_TYPE):
        return None
    try:
        return TokenAccount.from_bytes(account.data[:ACCOUNT_SIZE])
    except ValueError:
        return None


def _is(data: bytes, size: int, account_type: int) -> bool:
    return len(data) == size or (len(data) > TYPE_OFFSET and data[TYPE_OFFSET] == account_type)


def ui_amount(amount: int, decimals: int) -> dict[str, Any]:
    """An amount of base units as `UiTokenAmount`."""
    exact = Decimal(amount).scaleb(-decimals)
    return {
        "amount": str(amount),
        "decimals": decimals,
        "uiAmount": float(exact),
        "uiAmountString": f"{exact.normalize():f}",
    }


def parsed(account: Account, account_at: Callable[[Pubkey], Account | None]) -> dict[str, Any] | None:
    """The account's data in `jsonParsed`, or None when it is neither a mint nor a token account.

    Args:
        account: what to decode.
        account_at: reads the mint of a token account, for its decimals.
    """
    if mint := mint_of(account):
        kind, info = "mint", _mint_info(mint)
    elif (token := token_account_of(account)) and (mint := mint_of(account_at(token.mint))):
        kind, info = "account", _account_info(token, mint.decimals)
    else:
        return None
    if extensions := _extensions(account.data[TYPE_OFFSET + 1 :]):
        info["extensions"] = extensions
    return {
        "program": PROGRAMS[account.owner],
        "parsed": {"type": kind, "info": info},
        "space": len(account.data),
    }


def _mint_info(mint: Mint) -> dict[str, Any]:
    return {
        "mintAuthority": _text(mint.mint_authority),
        "supply": str(mint.supply),
        "decimals": mint.decimals,
        "isInitialized": mint.is_initialized,
        "freezeAuthority": _text(mint.freeze_authority),
    }


def _account_info(token: TokenAccount, decimals: int) -> dict[str, Any]:
    info: dict[str, Any] = {
        "mint": str(token.mint),
        "owner": str(token.owner),
        "tokenAmount": ui_amount(token.amount, decimals),
        "state": "frozen" if token.state == TokenAccountState.Frozen else "initialized",
        "isNative": token.is_native is not None,
    }
    if token.is_native is not None:
        info["rentExemptReserve"] = ui_amount(token.is_native, decimals)
    if token.delegate is not None:
        info["delegate"] = str(token.delegate)
        info["delegatedAmount"] = ui_amount(token.delegated_amount, decimals)
    if token.close_authority is not None:
        info["closeAuthority"] = str(token.close_authority)
    return info


def _extensions(data: bytes) -> list[dict[str, Any]]:
    # Type 0 is room that is not used yet.
    return [_extension(entry.type, entry.value) for entry in _EXTENSIONS.parse(data) if entry.type]


def _extension(number: int, value: bytes) -> dict[str, Any]:
    try:
        match number:
            case 3:
                return {"extension": "mintCloseAuthority", "state": {"closeAuthority": _optional(value)}}
            case 7:
                return {"extension": "immutableOwner"}
            case 9:
                return {"extension": "nonTransferable"}
            case 12:
                return {"extension": "permanentDelegate", "state": {"delegate": _optional(value)}}
            case 13:
                return {"extension": "nonTransferableAccount"}
            case 18:
                pointer = _METADATA_POINTER.parse(value)
                return {
                    "extension": "metadataPointer",
                    "state": {
                        "authority": _optional(pointer.authority),
                        "metadataAddress": _optional(pointer.metadata_address),
                    },
                }
            case 19:
                metadata = _TOKEN_METADATA.parse(value)
                return {
                    "extension": "tokenMetadata",
                    "state": {
                        "updateAuthority": _optional(metadata.update_authority),
                        "mint": str(Pubkey(metadata.mint)),
                        "name": metadata.name,
                        "symbol": metadata.symbol,
                        "uri": metadata.uri,
                        "additionalMetadata": [list(pair) for pair in metadata.additional_metadata],
                    },
                }
    except (ConstructError, UnicodeDecodeError):
        pass
    return {"extension": "unparseableExtension"}


def _optional(address: bytes) -> str | None:
    """An address that is absent when it is all zeros."""
    return str(Pubkey(address)) if any(address) else None


def _text(address: Pubkey | None) -> str | None:
    return None if address is None else str(address)
