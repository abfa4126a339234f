"""A local stand-in for a Solana RPC node: JSON-RPC 2.0 over HTTP on LiteSVM, one process, one node, no consensus.

It runs the real programs (System, Token, Token-2022, Associated Token, Memo …) that LiteSVM bundles, and answers in
the shapes of Agave's RPC, so that any client works with it unchanged. It says what it is: `getVersion` answers
`"clotho-local": true`. Run it with `python -m deploy.local.solana_node --port 8899 --state-dir DIR`.

**Time.** A slot passes every `--slot-ms` milliseconds of wall-clock time, also while the node is down, as a cluster
does not wait for one node. A transaction lands in the slot in which it is sent; it is `confirmed` one slot later and
`finalized` after `--finalize-after` slots (4 here; a real cluster needs about 32). Reads, simulations and preflight
see the accounts as of the commitment asked for, which is `finalized` unless a request says otherwise. A blockhash is
valid for 150 blocks. The block height is 1,000 lower than the slot, since on a real cluster the two differ.

**State.** `DIR/ledger.sqlite3` holds everything: each landed transaction is written there in one SQLite transaction
together with the accounts that it changed, before its sender gets an answer, so a kill loses nothing that was answered.
LiteSVM lives in memory and is rebuilt at each start: a fresh one already has the bundled programs and sysvars, and the
newest version of every other account is set into it. Blockhashes need no storage: each is the SHA-256 of the
cluster's random seed and the slot, so a transaction signed before a restart still lands after it. Older versions of an
account are kept until a newer one is final.

Programs that were deployed over the RPC survive like any account.

**Limits.** No WebSocket subscriptions (web3.js's `confirmTransaction` wants one: poll getSignatureStatuses instead),
blocks, votes, stakes, address lookup tables or durable nonces; fees are not paid to anybody; instructions are not
decoded for `jsonParsed`; `memo` is always null in getSignaturesForAddress.

**Faults.** `clotho_setFaults` makes the node misbehave for tests; see `faults.Faults`.
"""
