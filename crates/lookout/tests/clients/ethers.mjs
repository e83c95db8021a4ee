// The ordinary calls of an ethers v6 program, unchanged but for the URL.
// Usage: node ethers.mjs FOLDER-OF-ETHERS RPC-URL TOKEN PRIVATE-KEY RECEIVER

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [folder, url, tokenAddress, privateKey, receiver] = process.argv.slice(2);
const { ethers } = createRequire(`${folder}/`)("ethers");

// ethers itself answers the same question twice within 250 ms from its own cache; here the server's
// answers are looked at.
const provider = new ethers.JsonRpcProvider(url, undefined, { cacheTimeout: -1 });
provider.pollingInterval = 100;
const wallet = new ethers.Wallet(privateKey, provider);
const token = new ethers.Contract(
  tokenAddress,
  [
    "function decimals() view returns (uint8)",
    "function symbol() view returns (string)",
    "function balanceOf(address) view returns (uint256)",
    "function transfer(address to, uint256 value) returns (bool)",
    "event Transfer(address indexed from, address indexed to, uint256 value)",
  ],
  wallet,
);

async function reads() {
  assert.equal((await provider.getNetwork()).chainId, 31337n);
  const height = await provider.getBlockNumber();
  const block = await provider.getBlock(height, true);
  assert.equal(block.number, height);
  const first = await provider.getBlock(block.parentHash);
  assert.equal(first.hash, block.parentHash);
  for (const transaction of block.prefetchedTransactions) {
    const receipt = await provider.getTransactionReceipt(transaction.hash);
    assert.equal(receipt.blockHash, block.hash);
    assert.equal((await provider.getTransaction(transaction.hash)).from, transaction.from);
  }
  assert.ok((await provider.getBalance(wallet.address)) > 0n);
  assert.ok((await provider.getTransactionCount(wallet.address)) > 0);
  const fees = await provider.getFeeData();
  assert.ok(fees.gasPrice > 0n && fees.maxFeePerGas > 0n);
  const history = await provider.send("eth_feeHistory", ["0x4", "latest", [50]]);
  assert.equal(history.reward.length, 4);
  assert.ok((await provider.getCode(tokenAddress)).length > 2);
  assert.equal((await provider.getStorage(tokenAddress, 0)).length, 66);
  assert.equal(await provider.getBlock(height + 1_000_000), null);
}

async function contracts() {
  assert.equal(await token.decimals(), 6n);
  assert.equal(await token.symbol(), "LKD");
  assert.ok((await token.balanceOf(wallet.address)) > 0n);
  assert.ok((await token.transfer.estimateGas(receiver, 1n)) > 21_000n);
  const minted = await token.queryFilter(token.filters.Transfer(ethers.ZeroAddress), 0);
  assert.equal(minted.length, 1);
  assert.equal(minted[0].args.to, wallet.address);
}

async function sends() {
  const before = await provider.getBalance(receiver);
  const sent = await wallet.sendTransaction({ to: receiver, value: 12_345n });
  const receipt = await sent.wait();
  assert.equal(receipt.status, 1);
  // What was just written is read: the receipt's block is not ahead of the balance's.
  assert.equal(await provider.getBalance(receiver), before + 12_345n);
  assert.equal((await provider.getBlock(receipt.blockNumber)).hash, receipt.blockHash);
}

async function tokens() {
  const before = await token.balanceOf(receiver);
  let heard;
  await token.on("Transfer", (from, to, value) => {
    heard ??= { from, to, value };
  });
  // A listener reports from the first block it looks at, so it may miss the first transfers.
  let sent = 0n;
  while (!heard) {
    assert.ok(sent < 100n * 77n, "the listener never heard of a transfer");
    const receipt = await (await token.transfer(receiver, 77n)).wait();
    assert.equal(receipt.logs[0].args.value, 77n);
    sent += 77n;
    assert.equal(await token.balanceOf(receiver), before + sent);
    await new Promise((resolve) => setTimeout(resolve, provider.pollingInterval));
  }
  assert.deepEqual(heard, { from: wallet.address, to: receiver, value: 77n });
  await token.removeAllListeners();
}

async function errors() {
  const tooMuch = 2n ** 200n;
  for (const call of [token.transfer.staticCall, token.transfer.estimateGas, token.transfer]) {
    await assert.rejects(call(receiver, tooMuch), (error) => {
      assert.equal(error.code, "CALL_EXCEPTION", error);
      assert.equal(error.reason, "balance too low");
      return true;
    });
  }
  const poor = ethers.Wallet.createRandom(provider);
  await assert.rejects(poor.sendTransaction({ to: receiver, value: 1n }), {
    code: "INSUFFICIENT_FUNDS",
  });
}

async function batches() {
  // Calls of one tick leave as one JSON-RPC batch.
  const heights = Array.from({ length: 10 }, (_, height) => height);
  const blocks = await Promise.all(heights.map((height) => provider.getBlock(height)));
  assert.deepEqual(blocks.map((block) => block.number), heights);
}

for (const part of [reads, contracts, sends, tokens, errors, batches]) {
  await part();
  console.log(`${part.name} ok`);
}
provider.destroy();
