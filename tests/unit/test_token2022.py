"""The record of a market as Token-2022 itself keeps it: LiteSVM runs the real program."""

import hashlib
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.token.state import Mint
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import TransactionMetadata

from activities import token2022
from activities.market_chain import ChainRecord, NewRecord
from domain.status import MarketStatus

PUBLISHER, RESOLVER = Keypair(), Keypair()
TOKEN_2022 = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
PACKET = 1232
LONGEST = NewRecord(
    market_id=UUID("00000000-0000-4000-8000-000000000001"),
    rules_sha256="a" * 64,
    title="T" * 64,
    uri="https://market.clotho.example/api/v1/markets/00000000-0000-4000-8000-000000000001/metadata",
    expiry=datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC),
    ai_version="ai_v1.0.0_gpt35_20240601",
)


def publish(svm: LiteSVM, record: NewRecord, present: int = 0) -> list[Instruction]:
    svm.airdrop(PUBLISHER.pubkey(), 10**9)
    for side in ("yes", "no") if present else ():
        svm.airdrop(token2022.mint_address(PUBLISHER.pubkey(), record.market_id, side), present)
    return token2022.publish_instructions(
        PUBLISHER.pubkey(),
        RESOLVER.pubkey(),
        record,
        rent={
            "yes": svm.minimum_balance_for_rent_exemption(token2022.space_for_life(record)),
            "no": svm.minimum_balance_for_rent_exemption(82),
        },
        present={"yes": present, "no": present},
    )


def signed(svm: LiteSVM, instructions: list[Instruction], *signers: Keypair) -> VersionedTransaction:
    message = Message.new_with_blockhash(instructions, signers[0].pubkey(), svm.latest_blockhash())
    return VersionedTransaction(message, signers)


def on_chain(svm: LiteSVM, record: NewRecord) -> tuple[str, bytes]:
    address = token2022.mint_address(PUBLISHER.pubkey(), record.market_id, "yes")
    account = svm.get_account(address)
    assert account is not None
    return str(address), account.data


@given(st.binary(min_size=32, max_size=32), st.uuids())
def test_addresses_are_those_that_solana_derives_from_publisher_seed_and_program(
    publisher: bytes, market: UUID
) -> None:
    for side in ("yes", "no"):
        seed = hashlib.sha256(f"{market}:{side}".encode()).hexdigest()[:32]
        derived = hashlib.sha256(publisher + seed.encode() + bytes(TOKEN_2022)).digest()
        assert bytes(token2022.mint_address(Pubkey(publisher), market, side)) == derived


@pytest.mark.parametrize("present", [0, 10**6], ids=["new addresses", "addresses with lamports on them"])
def test_a_whole_market_is_one_transaction_even_with_its_longest_texts(present: int) -> None:
    svm = LiteSVM()
    assert (len(LONGEST.title), len(LONGEST.uri)) == (64, 90)
    transaction = signed(svm, publish(svm, LONGEST, present), PUBLISHER)
    assert len(bytes(transaction)) < PACKET
    assert isinstance(svm.send_transaction(transaction), TransactionMetadata)
    address, data = on_chain(svm, LONGEST)
    assert token2022.parse_record(address, data) == ChainRecord(
        **LONGEST.model_dump(), address=address, status=MarketStatus.ACTIVE, immutable=False
    )
    for side in ("yes", "no"):
        account = svm.get_account(token2022.mint_address(PUBLISHER.pubkey(), LONGEST.market_id, side))
        assert account is not None
        assert account.owner == TOKEN_2022
        mint = Mint.from_bytes(account.data[:82])
        assert (mint.decimals, mint.supply, mint.mint_authority) == (6, 0, PUBLISHER.pubkey())
        assert mint.freeze_authority is None


@settings(max_examples=30, deadline=None)
@given(
    record=st.builds(
        NewRecord,
        market_id=st.uuids(),
        rules_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
        title=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256),
        uri=st.text("abc/-", min_size=1, max_size=90),
        expiry=st.integers(1_600_000_000, 4_000_000_000).map(lambda s: datetime.fromtimestamp(s, UTC)),
        ai_version=st.text("aiv_0.", min_size=1, max_size=24),
    )
)
@example(LONGEST.model_copy(update={"title": "Пойдёт ли дождь? " * 10}))
@example(LONGEST.model_copy(update={"title": "🌧" * 64}))
def test_what_is_published_is_what_is_read(record: NewRecord) -> None:
    svm = LiteSVM()
    transaction = signed(svm, publish(svm, record), PUBLISHER)
    assert len(bytes(transaction)) <= PACKET
    assert isinstance(svm.send_transaction(transaction), TransactionMetadata)
    found = token2022.parse_record(*on_chain(svm, record))
    # A title of any script loses whole characters at its end, and only what 64 bytes do not hold.
    assert record.title.startswith(found.title)
    longer = record.title[: len(found.title) + 1]
    assert found.title == record.title or len(longer.encode()) > 64
    assert found.expiry == record.expiry
    same = {"market_id", "rules_sha256", "uri", "ai_version"}
    assert found.model_dump(include=same) == record.model_dump(include=same)


def test_finalisation_gives_up_every_authority_over_both_mints() -> None:
    svm = LiteSVM()
    svm.airdrop(RESOLVER.pubkey(), 10**9)
    assert isinstance(svm.send_transaction(signed(svm, publish(svm, LONGEST), PUBLISHER)), TransactionMetadata)
    last = token2022.finalize_instructions(PUBLISHER.pubkey(), RESOLVER.pubkey(), LONGEST.market_id)
    assert isinstance(svm.send_transaction(signed(svm, last, RESOLVER, PUBLISHER)), TransactionMetadata)
    record = token2022.parse_record(*on_chain(svm, LONGEST))
    assert (record.status, record.immutable) == (MarketStatus.FINALIZED, True)
    for side in ("yes", "no"):
        account = svm.get_account(token2022.mint_address(PUBLISHER.pubkey(), LONGEST.market_id, side))
        assert account is not None
        assert Mint.from_bytes(account.data[:82]).mint_authority is None


def test_bytes_that_are_no_record_are_refused_with_a_reason() -> None:
    svm = LiteSVM()
    assert isinstance(svm.send_transaction(signed(svm, publish(svm, LONGEST), PUBLISHER)), TransactionMetadata)
    address, data = on_chain(svm, LONGEST)
    with pytest.raises(ValueError, match="that of another mint"):
        token2022.parse_record(str(PUBLISHER.pubkey()), data)
    no = token2022.mint_address(PUBLISHER.pubkey(), LONGEST.market_id, "no")
    account = svm.get_account(no)
    assert account is not None
    with pytest.raises(ValueError, match=f"{no} holds no market's record"):
        token2022.parse_record(str(no), account.data)
    with pytest.raises(ValueError, match="holds no market's record"):
        token2022.parse_record(address, data.replace(b"active", b"opened"))


@settings(deadline=None)
@given(st.binary(max_size=800))
def test_arbitrary_bytes_never_do_worse_than_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="holds no market's record"):
        token2022.parse_record(str(PUBLISHER.pubkey()), data)


GIVEN = Keypair.from_seed(bytes(range(32)))


def test_a_wallet_secret_is_base58_or_a_json_array() -> None:
    pair = Keypair()
    for secret in (str(pair), f" {pair}\n", pair.to_json()):
        assert token2022.wallet(SecretStr(secret), "PUBLISHER_WALLET_SECRET").pubkey() == pair.pubkey()


@pytest.mark.parametrize(
    "secret",
    ["", "not base58: 0OIl", str(GIVEN)[:-4], "[1, 2, 3]", "[", str(list(bytes(GIVEN))[:32] + [7] * 32)],
)
def test_a_bad_wallet_secret_is_one_sentence_that_names_the_variable_and_not_the_secret(secret: str) -> None:
    with pytest.raises(ValueError, match="RESOLVER_WALLET_SECRET holds no key pair") as caught:
        token2022.wallet(SecretStr(secret), "RESOLVER_WALLET_SECRET")
    assert len(secret) < 3 or secret not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
