"""Parameters of the RPC methods. Unknown fields are ignored and a null means the default, as in Agave."""

import base64
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

import base58
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator
from pydantic.alias_generators import to_camel
from solders.hash import Hash, ParseHashError
from solders.pubkey import Pubkey
from solders.signature import Signature

from deploy.local.solana_node.bank import Commitment
from deploy.local.solana_node.encoding import AccountEncoding, TransactionEncoding


def _from_base58(parse: Callable[[str], Any]) -> PlainValidator:
    def validate(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError("a base-58 string is expected")  # noqa: TRY004  pydantic reports a ValueError
        try:
            return parse(value)
        except (ValueError, ParseHashError) as error:
            raise ValueError(str(error)) from error

    return PlainValidator(validate)


Address = Annotated[Pubkey, _from_base58(Pubkey.from_string)]
Blockhash = Annotated[Hash, _from_base58(Hash.from_string)]
TransactionSignature = Annotated[Signature, _from_base58(Signature.from_string)]
Unsigned = Annotated[int, Field(ge=0, lt=2**64, strict=True)]


class _Params(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if value is None:
            return {}
        return {key: field for key, field in value.items() if field is not None} if isinstance(value, dict) else value


class Config(_Params):
    """What most methods take last."""

    commitment: Commitment = Commitment.FINALIZED
    min_context_slot: Unsigned = 0


class DataSlice(_Params):
    """Part of an account's data, in bytes."""

    offset: Unsigned = 0
    length: Unsigned = 2**64 - 1

    def slice(self) -> slice:
        """The part, as Python cuts it."""
        return slice(self.offset, self.offset + self.length)


class AccountConfig(Config):
    """How to answer accounts."""

    encoding: AccountEncoding = "binary"
    data_slice: DataSlice = DataSlice()


class Memcmp(_Params):
    """Bytes that an account's data must hold at an offset."""

    offset: Unsigned
    encoding: Literal["base58", "base64", "bytes"] = "base58"
    encoded: str | list[Annotated[int, Field(ge=0, le=255)]] = Field(alias="bytes")

    @model_validator(mode="after")
    def _decodes(self) -> Self:
        self._wanted()
        return self

    def _wanted(self) -> bytes:
        if isinstance(self.encoded, list):
            return bytes(self.encoded)
        return base64.b64decode(self.encoded) if self.encoding == "base64" else base58.b58decode(self.encoded)

    def accepts(self, data: bytes) -> bool:
        """Whether `data` holds the bytes."""
        return data[self.offset :].startswith(self._wanted())


class AccountFilter(_Params):
    """One condition of getProgramAccounts."""

    model_config = ConfigDict(extra="forbid")

    data_size: Unsigned | None = None
    memcmp: Memcmp | None = None

    def accepts(self, data: bytes) -> bool:
        """Whether an account with this data is wanted."""
        return (self.data_size is None or len(data) == self.data_size) and (
            self.memcmp is None or self.memcmp.accepts(data)
        )


class ProgramAccountsConfig(AccountConfig):
    """Which of a program's accounts to answer, and how."""

    filters: list[AccountFilter] = []
    with_context: bool = False


class TokenAccountsFilter(_Params):
    """Token accounts of one mint, or of all mints of one token program."""

    mint: Address | None = None
    program_id: Address | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.mint is None) == (self.program_id is None):
            raise ValueError("either mint or programId must be given")
        return self


class SendConfig(_Params):
    """How sendTransaction takes a transaction; the node delivers at once, so `maxRetries` changes nothing."""

    encoding: Literal["base58", "base64"] = "base58"
    skip_preflight: bool = False
    preflight_commitment: Commitment = Commitment.FINALIZED
    min_context_slot: Unsigned = 0


class SimulatedAccounts(_Params):
    """Accounts to answer as the simulation left them."""

    addresses: list[Address]
    encoding: Literal["base64", "jsonParsed"] = "base64"


class SimulateConfig(Config):
    """How simulateTransaction takes a transaction and what it answers."""

    encoding: Literal["base58", "base64"] = "base58"
    sig_verify: bool = False
    replace_recent_blockhash: bool = False
    accounts: SimulatedAccounts | None = None
    inner_instructions: bool = False

    @model_validator(mode="after")
    def _no_signature_on_a_replaced_blockhash(self) -> Self:
        if self.sig_verify and self.replace_recent_blockhash:
            raise ValueError("sigVerify may not be used with replaceRecentBlockhash")
        return self


class StatusConfig(_Params):
    """How far back getSignatureStatuses looks."""

    search_transaction_history: bool = False


class TransactionConfig(Config):
    """How getTransaction answers; older clients give only the encoding."""

    encoding: TransactionEncoding = "json"
    max_supported_transaction_version: Unsigned | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_encoding(cls, value: Any) -> Any:
        return {"encoding": value} if isinstance(value, str) else value


class SignaturesConfig(Config):
    """Which signatures getSignaturesForAddress answers."""

    before: TransactionSignature | None = None
    until: TransactionSignature | None = None
    limit: int = Field(1_000, ge=1, le=1_000)
