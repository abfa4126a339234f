"""Buying on the embedded chain: the publisher holds the mint authority, so tokens can be handed to anybody."""

from uuid import UUID

from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from spl.token.constants import TOKEN_2022_PROGRAM_ID
from spl.token.instructions import create_associated_token_account, get_associated_token_address, mint_to
from spl.token.models import MintToParams

from activities.token2022 import Side, mint_address


async def buy(
    chain: AsyncClient, publisher: Keypair, market_id: UUID, owner: Pubkey, *, side: Side, millionths: int = 1_000_000
) -> None:
    """Hand tokens of a published market to an owner; returns when everybody can see them.

    Args:
        chain: the node.
        publisher: pays, and holds the mint authority.
        market_id: the market.
        owner: who gets them.
        side: yes or no.
        millionths: how many, in millionths of a token.
    """
    mint = mint_address(publisher.pubkey(), market_id, side)
    account = get_associated_token_address(owner, mint, TOKEN_2022_PROGRAM_ID)
    instructions = [
        create_associated_token_account(publisher.pubkey(), owner, mint, TOKEN_2022_PROGRAM_ID),
        mint_to(
            MintToParams(
                program_id=TOKEN_2022_PROGRAM_ID,
                mint=mint,
                dest=account,
                mint_authority=publisher.pubkey(),
                amount=millionths,
            )
        ),
    ]
    blockhash = (await chain.get_latest_blockhash(Confirmed)).value.blockhash
    message = Message.new_with_blockhash(instructions, publisher.pubkey(), blockhash)
    sent = await chain.send_transaction(VersionedTransaction(message, [publisher]))
    await chain.confirm_transaction(sent.value, Confirmed, sleep_seconds=0.1)
