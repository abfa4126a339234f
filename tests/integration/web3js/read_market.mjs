// Reads a Token-2022 mint with its metadata, and what an owner holds of it, and prints them as one line of JSON.
// Usage: node read_market.mjs RPC_URL MINT OWNER
import { Connection, PublicKey } from "@solana/web3.js";
import { TOKEN_2022_PROGRAM_ID, getMint, getTokenMetadata } from "@solana/spl-token";

const [url, mintAddress, ownerAddress] = process.argv.slice(2);
const connection = new Connection(url, "confirmed");
const address = new PublicKey(mintAddress);

const mint = await getMint(connection, address, "confirmed", TOKEN_2022_PROGRAM_ID);
const metadata = await getTokenMetadata(connection, address, "confirmed");
const held = await connection.getParsedTokenAccountsByOwner(new PublicKey(ownerAddress), { mint: address });

console.log(
  JSON.stringify({
    decimals: mint.decimals,
    supply: mint.supply.toString(),
    mintAuthority: mint.mintAuthority?.toBase58() ?? null,
    metadata: metadata && {
      updateAuthority: metadata.updateAuthority?.toBase58() ?? null,
      name: metadata.name,
      symbol: metadata.symbol,
      uri: metadata.uri,
      fields: Object.fromEntries(metadata.additionalMetadata),
    },
    balances: held.value.map(({ pubkey, account }) => ({
      account: pubkey.toBase58(),
      amount: account.data.parsed.info.tokenAmount.amount,
    })),
  }),
);
