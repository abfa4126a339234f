"""Markets as pairs of Token-2022 mints: no program of our own, and addresses known before anything is sent.

A market is a YES mint, which carries the record in its metadata, and a plain NO mint. Encodings follow the Token-2022
program and the SPL token-metadata interface (spl-token-2022 8, spl-token-metadata-interface 0.6).
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import construct
from pydantic import SecretStr
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Commitment, Confirmed, Finalized
from solana.rpc.models import TokenAccountOpts
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import (
    AllocateWithSeedParams,
    CreateAccountWithSeedParams,
    TransferParams,
    allocate_with_seed,
    create_account_with_seed,
    transfer,
)
from solders.token.state import Mint, TokenAccount
from spl.token.constants import ACCOUNT_LEN, MINT_LEN, TOKEN_2022_PROGRAM_ID
from spl.token.instructions import initialize_mint2, set_authority
from spl.token.models import AuthorityType, InitializeMint2Params, SetAuthorityParams
from temporalio.exceptions import ApplicationError

from activities.market_chain import ChainRecord, Holdings, NewRecord, Overturn, Settlement, Written
from activities.transactions import Effect, Transactions, rpc
from domain import errors
from domain.canonical import sha256_hex
from domain.errors import failure
from domain.status import MarketStatus

DECIMALS = 6
TITLE_LIMIT = 64
"""UTF-8 bytes, so that a title in any script fits the transaction."""

Side = Literal["yes", "no"]

_NOBODY = bytes(32)
"""How Token-2022 writes "no authority" in an extension."""
_METADATA_POINTER = 18  # ExtensionType
_TOKEN_METADATA = 19
_EXTENSIONS_START = ACCOUNT_LEN + 1  # a mint is padded to a token account's length, then one byte says which it is
_POINTER_SPACE = _EXTENSIONS_START + 4 + 64  # type and length, authority and address

_STRING = construct.PascalString(construct.Int32ul, "utf8")
_FIELD = construct.Sequence(_STRING, _STRING)
_METADATA = construct.Struct(
    "update_authority" / construct.Bytes(32),
    "mint" / construct.Bytes(32),
    "name" / _STRING,
    "symbol" / _STRING,
    "uri" / _STRING,
    "fields" / construct.PrefixedArray(construct.Int32ul, _FIELD),
)
_EXTENSIONS = construct.GreedyRange(
    construct.Sequence(construct.Int16ul, construct.Prefixed(construct.Int16ul, construct.GreedyBytes))
)

_LONGEST_ENDING = {
    "status": MarketStatus.FINALIZED.value,
    "outcome": "VOID",
    "evidence_sha256": "0" * 64,
    "resolved_at": "2000-01-01T00:00:00Z",
    "dispute_id": "0" * 36,
}
"""The fields that are written after publication, at their longest."""


def wallet(secret: SecretStr, variable: str) -> Keypair:
    """The key pair in a wallet secret: base58 of its 64 bytes, or a JSON array of them as `solana-keygen` writes it.

    Raises:
        ValueError: it is neither; the message names `variable` and never the secret.
    """
    text = secret.get_secret_value().strip()
    try:
        return Keypair.from_json(text) if text.startswith("[") else Keypair.from_base58_string(text)
    except ValueError:
        pass
    # Outside the handler, so that no traceback carries the parser's words about the secret.
    raise ValueError(f"{variable} holds no key pair: set it to the base58 or the JSON array of the wallet's 64 bytes")


def mint_address(publisher: Pubkey, market_id: UUID, side: Side) -> Pubkey:
    """The address of a market's mint: a function of publisher and market, so that a market is never created twice."""
    return Pubkey.create_with_seed(publisher, _seed(market_id, side), TOKEN_2022_PROGRAM_ID)


def _seed(market_id: UUID, side: Side) -> str:
    return sha256_hex(f"{market_id}:{side}".encode())[:32]


def parse_record(address: str, data: bytes) -> ChainRecord:
    """The record in the bytes of a YES mint's account; pure, so that anyone can check what a node answers.

    `immutable` is read from the YES mint alone: finalisation gives up the authority over the NO mint in the same
    transaction, and neither mint ever has an authority that could freeze or close it.

    Raises:
        ValueError: the bytes are not a market's record at that address.
    """
    try:
        return _parse(address, data)
    except (ValueError, KeyError, construct.ConstructError) as error:
        raise ValueError(f"account {address} holds no market's record ({type(error).__name__}: {error})") from error


def _parse(address: str, data: bytes) -> ChainRecord:
    mint = Mint.from_bytes(data[:MINT_LEN])
    extensions = dict(_EXTENSIONS.parse(data[_EXTENSIONS_START:]))
    metadata = _METADATA.parse(extensions[_TOKEN_METADATA])
    own = bytes(Pubkey.from_string(address))
    if extensions[_METADATA_POINTER][32:] != own or metadata.mint != own:
        raise ValueError("its metadata is that of another mint")
    fields = dict(metadata.fields)
    return ChainRecord(
        address=address,
        market_id=UUID(fields["market_id"]),
        rules_sha256=fields["rules_sha256"],
        title=metadata.name,
        uri=metadata.uri,
        expiry=datetime.fromisoformat(fields["expiry"]),
        status=MarketStatus(fields["status"]),
        ai_version=fields["ai_version"],
        outcome=fields.get("outcome"),
        evidence_sha256=fields.get("evidence_sha256"),
        resolved_at=datetime.fromisoformat(fields["resolved_at"]) if "resolved_at" in fields else None,
        dispute_id=UUID(fields["dispute_id"]) if "dispute_id" in fields else None,
        immutable=mint.mint_authority is None and metadata.update_authority == _NOBODY,
    )


async def read_record(client: AsyncClient, address: Pubkey, commitment: Commitment = Confirmed) -> ChainRecord | None:
    """The record at an address; None when nothing was published there.

    Raises:
        ApplicationError: ChainUnreachable, or ChainConflict when the account holds something else.
    """
    account = (await rpc(client.get_account_info(address, commitment))).value
    # Anyone can send lamports to an address before it is created; the system program owns it until then.
    if account is None or account.owner == SYSTEM_PROGRAM:
        return None
    if account.owner != TOKEN_2022_PROGRAM_ID:
        raise failure(errors.CHAIN_CONFLICT, f"account {address} belongs to {account.owner}, not to Token-2022")
    try:
        return parse_record(str(address), account.data)
    except ValueError as error:
        raise failure(errors.CHAIN_CONFLICT, str(error)) from error


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _title(title: str) -> str:
    return title.encode()[:TITLE_LIMIT].decode(errors="ignore")


def _first_fields(record: NewRecord) -> dict[str, str]:
    return {
        "market_id": str(record.market_id),
        "rules_sha256": record.rules_sha256,
        "expiry": _time(record.expiry),
        "status": MarketStatus.ACTIVE.value,
        "ai_version": record.ai_version,
    }


def space_for_life(record: NewRecord) -> int:
    """Bytes of the YES mint when every field that it may ever have is written at its longest."""
    metadata: dict[str, Any] = {
        "update_authority": _NOBODY,
        "mint": _NOBODY,
        "name": _title(record.title),
        "symbol": "YES",
        "uri": record.uri,
        "fields": list((_first_fields(record) | _LONGEST_ENDING).items()),
    }
    return _POINTER_SPACE + 4 + len(_METADATA.build(metadata))


def publish_instructions(
    publisher: Pubkey,
    resolver: Pubkey,
    record: NewRecord,
    rent: Mapping[Side, int],
    present: Mapping[Side, int],
) -> list[Instruction]:
    """Both mints and the whole record, for one transaction, paid and signed by the publisher alone.

    Args:
        publisher: pays, and holds the mint authorities until finalisation.
        resolver: holds the metadata update authority from here on.
        record: what is published.
        rent: lamports that exempt each mint's account from rent; for YES at its `space_for_life`, so that the resolver
            never has to pay for a longer record.
        present: lamports that are at each address already.
    """
    mints: dict[Side, Pubkey] = {
        "yes": mint_address(publisher, record.market_id, "yes"),
        "no": mint_address(publisher, record.market_id, "no"),
    }
    yes = mints["yes"]

    def create(side: Side, space: int) -> list[Instruction]:
        seed = _seed(record.market_id, side)
        if not present[side]:
            return [
                create_account_with_seed(
                    CreateAccountWithSeedParams(
                        from_pubkey=publisher,
                        to_pubkey=mints[side],
                        base=publisher,
                        seed=seed,
                        lamports=rent[side],
                        space=space,
                        owner=TOKEN_2022_PROGRAM_ID,
                    )
                )
            ]
        # Creation refuses an address with lamports on it, so anyone could block a market for a few of them.
        missing = max(rent[side] - present[side], 0)
        return [
            transfer(TransferParams(from_pubkey=publisher, to_pubkey=mints[side], lamports=missing)),
            allocate_with_seed(
                AllocateWithSeedParams(
                    address=mints[side], base=publisher, seed=seed, space=space, owner=TOKEN_2022_PROGRAM_ID
                )
            ),
        ]

    # No authority over the pointer: it points to the mint itself for ever.
    point = _instruction(bytes([39, 0]) + _NOBODY + bytes(yes), AccountMeta(yes, False, True))
    describe = _instruction(
        _discriminator("initialize_account")
        + b"".join(_STRING.build(text) for text in (_title(record.title), "YES", record.uri)),
        AccountMeta(yes, False, True),
        AccountMeta(publisher, False, False),
        AccountMeta(yes, False, False),
        AccountMeta(publisher, True, False),
    )
    return [
        *create("yes", _POINTER_SPACE),
        point,
        _initialize_mint(yes, publisher),
        describe,
        *_update(yes, publisher, _first_fields(record)),
        _hand_over(yes, publisher, bytes(resolver)),
        *create("no", MINT_LEN),
        _initialize_mint(mints["no"], publisher),
    ]


def finalize_instructions(publisher: Pubkey, resolver: Pubkey, market_id: UUID) -> list[Instruction]:
    """The last change: status finalized, and every authority over both mints given up in the same transaction.

    The NO mint carries no record, but a supply that could still grow on one side would belie the outcome: its mint
    authority goes with that of YES.
    """
    yes, no = (mint_address(publisher, market_id, side) for side in ("yes", "no"))
    return [
        *_update(yes, resolver, {"status": MarketStatus.FINALIZED.value}),
        _hand_over(yes, resolver, _NOBODY),
        *(
            set_authority(
                SetAuthorityParams(
                    program_id=TOKEN_2022_PROGRAM_ID,
                    account=mint,
                    authority=AuthorityType.MINT_TOKENS,
                    current_authority=publisher,
                )
            )
            for mint in (yes, no)
        ),
    ]


def _instruction(data: bytes, *accounts: AccountMeta) -> Instruction:
    return Instruction(TOKEN_2022_PROGRAM_ID, data, accounts)


def _discriminator(name: str) -> bytes:
    return hashlib.sha256(f"spl_token_metadata_interface:{name}".encode()).digest()[:8]


def _initialize_mint(mint: Pubkey, authority: Pubkey) -> Instruction:
    padded = initialize_mint2(
        InitializeMint2Params(decimals=DECIMALS, program_id=TOKEN_2022_PROGRAM_ID, mint=mint, mint_authority=authority)
    )
    # solana 0.41 writes 32 zeros for the absent freeze authority, which the transaction has no room for.
    return Instruction(padded.program_id, padded.data[:35], padded.accounts)


def _update(mint: Pubkey, authority: Pubkey, fields: Mapping[str, str]) -> list[Instruction]:
    return [
        _instruction(
            _discriminator("updating_field") + b"\x03" + _FIELD.build([key, value]),  # 3: a field by its key
            AccountMeta(mint, False, True),
            AccountMeta(authority, True, False),
        )
        for key, value in fields.items()
    ]


def _hand_over(mint: Pubkey, authority: Pubkey, new_authority: bytes) -> Instruction:
    return _instruction(
        _discriminator("update_the_authority") + new_authority,
        AccountMeta(mint, False, True),
        AccountMeta(authority, True, False),
    )


class Token2022Chain:
    """`MarketChain` over Token-2022. The publisher creates and pays for records; the resolver pays for what follows."""

    def __init__(self, client: AsyncClient, transactions: Transactions, publisher: Keypair, resolver: Keypair) -> None:
        self._client = client
        self._transactions = transactions
        self._publisher = publisher
        self._resolver = resolver

    async def publish(self, record: NewRecord) -> Written:
        """See `MarketChain`."""
        publisher = self._publisher.pubkey()

        def is_done(found: ChainRecord | None) -> bool:
            if found is not None and (found.market_id, found.rules_sha256) != (record.market_id, record.rules_sha256):
                raise failure(
                    errors.CHAIN_CONFLICT,
                    f"{found.address} holds market {found.market_id} with rules {found.rules_sha256}, not market"
                    f" {record.market_id} with rules {record.rules_sha256}",
                )
            return found is not None

        async def instructions() -> list[Instruction]:
            sides: tuple[Side, ...] = ("yes", "no")
            sizes: dict[Side, int] = {"yes": space_for_life(record), "no": MINT_LEN}
            rent: dict[Side, int] = {}
            present: dict[Side, int] = {}
            for side in sides:
                exempt = await rpc(self._client.get_minimum_balance_for_rent_exemption(sizes[side], Confirmed))
                balance = await rpc(self._client.get_balance(self._mint(record.market_id, side), Confirmed))
                rent[side], present[side] = exempt.value, balance.value
            return publish_instructions(publisher, self._resolver.pubkey(), record, rent, present)

        return await self._write(record.market_id, "publish", is_done, instructions, (self._publisher,), creates=True)

    async def settle(self, settlement: Settlement) -> Written:
        """See `MarketChain`."""
        wanted = (settlement.outcome, settlement.evidence_sha256, None)

        def is_done(found: ChainRecord | None) -> bool:
            record = _existing(found, settlement.market_id)
            if record.status is MarketStatus.ACTIVE:
                return False
            if (record.outcome, record.evidence_sha256, record.dispute_id) != wanted:
                raise _conflict(record, f"be settled {settlement.outcome}")
            return True

        async def instructions() -> list[Instruction]:
            return self._resolution(settlement)

        return await self._write(
            settlement.market_id, f"settle:{settlement.look}", is_done, instructions, (self._resolver,)
        )

    async def overturn(self, overturn: Overturn) -> Written:
        """See `MarketChain`."""
        wanted = (overturn.outcome, overturn.evidence_sha256)

        def is_done(found: ChainRecord | None) -> bool:
            record = _existing(found, overturn.market_id)
            if record.dispute_id == overturn.dispute_id:
                if (record.outcome, record.evidence_sha256) != wanted:
                    raise _conflict(record, f"be overturned to {overturn.outcome} by the same dispute again")
                return True
            if record.status is not MarketStatus.RESOLVED:
                raise _conflict(record, f"be overturned to {overturn.outcome}")
            return False

        async def instructions() -> list[Instruction]:
            return self._resolution(overturn)

        return await self._write(
            overturn.market_id, f"overturn:{overturn.dispute_id}", is_done, instructions, (self._resolver,)
        )

    async def cancel(self, market_id: UUID) -> Written | None:
        """See `MarketChain`."""
        # A publication that was signed may land yet; only then is it known whether there is a record to cancel.
        await self._transactions.finish(market_id)
        if await self.read(market_id) is None:
            return None

        def is_done(found: ChainRecord | None) -> bool:
            record = _existing(found, market_id)
            if record.status not in (MarketStatus.ACTIVE, MarketStatus.CANCELED):
                raise _conflict(record, "be cancelled")
            return record.status is MarketStatus.CANCELED

        async def instructions() -> list[Instruction]:
            fields = {"status": MarketStatus.CANCELED.value, "outcome": "VOID"}
            return _update(self._mint(market_id, "yes"), self._resolver.pubkey(), fields)

        return await self._write(market_id, "cancel", is_done, instructions, (self._resolver,))

    async def finalize(self, market_id: UUID) -> Written:
        """See `MarketChain`."""

        def is_done(found: ChainRecord | None) -> bool:
            record = _existing(found, market_id)
            if not record.immutable and record.status is not MarketStatus.RESOLVED:
                raise _conflict(record, "be finalised")
            return record.immutable

        async def instructions() -> list[Instruction]:
            return finalize_instructions(self._publisher.pubkey(), self._resolver.pubkey(), market_id)

        signers = (self._resolver, self._publisher)
        return await self._write(market_id, "finalize", is_done, instructions, signers, until=Finalized)

    async def read(self, market_id: UUID) -> ChainRecord | None:
        """See `MarketChain`."""
        return await read_record(self._client, self._mint(market_id, "yes"))

    async def holdings(self, market_id: UUID, owner: str) -> Holdings:
        """See `MarketChain`."""
        try:
            address = Pubkey.from_string(owner)
        except ValueError as error:
            raise failure(errors.BAD_INPUT, f"address: {owner[:100]!r} is not a Solana address") from error
        yes, no = [await self._amount(address, self._mint(market_id, side)) for side in ("yes", "no")]
        return Holdings(yes=yes, no=no)

    async def _amount(self, owner: Pubkey, mint: Pubkey) -> int:
        found = await rpc(self._client.get_token_accounts_by_owner(owner, TokenAccountOpts(mint=mint), Confirmed))
        # Extensions follow the account that solders knows; an owner may have several accounts.
        return sum(TokenAccount.from_bytes(keyed.account.data[:ACCOUNT_LEN]).amount for keyed in found.value)

    def _mint(self, market_id: UUID, side: Side) -> Pubkey:
        return mint_address(self._publisher.pubkey(), market_id, side)

    def _resolution(self, resolution: Settlement | Overturn) -> list[Instruction]:
        fields = {
            "status": MarketStatus.RESOLVED.value,
            "outcome": resolution.outcome.value,
            "evidence_sha256": resolution.evidence_sha256,
            "resolved_at": _time(datetime.now(UTC)),
        }
        if isinstance(resolution, Overturn):
            fields["dispute_id"] = str(resolution.dispute_id)
        return _update(self._mint(resolution.market_id, "yes"), self._resolver.pubkey(), fields)

    async def _write(
        self,
        market_id: UUID,
        purpose: str,
        is_done: Callable[[ChainRecord | None], bool],
        instructions: Callable[[], Awaitable[Sequence[Instruction]]],
        signers: tuple[Keypair, ...],
        *,
        creates: bool = False,
        until: Commitment = Confirmed,
    ) -> Written:
        async def state() -> ChainRecord | None:
            found = await self.read(market_id)
            return found if is_done(found) else None

        done = await self._transactions.send(
            Effect(
                market_id=market_id,
                purpose=purpose,
                account=self._mint(market_id, "yes"),
                state=state,
                instructions=instructions,
                signers=signers,
                creates=creates,
                until=until,
            )
        )
        return Written(record=done.state, signature=done.signature, slot=done.slot)


def _existing(record: ChainRecord | None, market_id: UUID) -> ChainRecord:
    if record is None:
        raise failure(errors.CHAIN_CONFLICT, f"market {market_id} has no record on chain")
    return record


def _conflict(record: ChainRecord, wanted: str) -> ApplicationError:
    return failure(
        errors.CHAIN_CONFLICT,
        f"the record of market {record.market_id} is {record.status} with outcome {record.outcome} and cannot {wanted}",
    )
