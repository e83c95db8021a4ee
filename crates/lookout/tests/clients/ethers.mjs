// An ordinary ethers program, pointed at Lookout instead of at a node.
// usage: node ethers.mjs NODE_MODULES RPC_URL PRIVATE_KEY TOKEN RECEIVER
// Prints one JSON object a line, {"step": …, "value": …}; the test compares them with the node.
import { createRequire } from "node:module";

const [modules, url, key, tokenAddress, receiver] = process.argv.slice(2);
const { Contract, JsonRpcProvider, Wallet, ZeroAddress, parseEther } = createRequire(`${modules}/`)("ethers");

const ABI = [
  "function name() view returns (string)",
  "function decimals() view returns (uint8)",
  "function balanceOf(address) view returns (uint256)",
  "function transfer(address to, uint256 value) returns (bool)",
  "event Transfer(address indexed from, address indexed to, uint256 value)",
];
// Longest wait for anything that the chain does at once.
const WITHIN_MS = 30_000;

function show(step, value) {
  const plain = (_, v) => (typeof v === "bigint" ? v.toString() : v);
  console.log(JSON.stringify({ step, value }, plain));
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${WITHIN_MS} ms`)), WITHIN_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function failure(promise) {
  try {
    await promise;
    return { code: "it worked" };
  } catch (error) {
    return { code: error.code, reason: error.reason, data: error.data?.slice(0, 10) };
  }
}

// ethers keeps answers for 250 ms, which is longer than a block here: without this, two reads around a
// transaction are one, against any node.
const provider = new JsonRpcProvider(url, undefined, { cacheTimeout: -1 });
provider.pollingInterval = 100;
// What really goes over the wire, to see batches and calls that fall back.
let largestBatch = 0;
const methods = new Set();
provider.on("debug", (event) => {
  if (event.action !== "sendRpcPayload") return;
  const calls = [event.payload].flat();
  largestBatch = Math.max(largestBatch, calls.length);
  for (const call of calls) methods.add(call.method);
});
const wallet = new Wallet(key, provider);
const token = new Contract(tokenAddress, ABI, wallet);

show("chainId", (await provider.getNetwork()).chainId);
const start = await provider.getBlockNumber();
show("blockNumber", start);
const block = await provider.getBlock(start, true);
show("block", { hash: block.hash, transactions: block.prefetchedTransactions.map((tx) => tx.hash) });
show("blockByHash", (await provider.getBlock(block.hash)).number);
show("balance", await provider.getBalance(wallet.address));
show("nonce", await provider.getTransactionCount(wallet.address));
show("code", await provider.getCode(tokenAddress));
show("storage", await provider.getStorage(tokenAddress, 7));
const fees = await provider.getFeeData();
show("feeData", { gasPrice: fees.gasPrice, maxFeePerGas: fees.maxFeePerGas });
show("feeHistory", (await provider.send("eth_feeHistory", ["0x2", "latest", [50]])).baseFeePerGas);

show("token", {
  name: await token.name(),
  decimals: await token.decimals(),
  balance: await token.balanceOf(wallet.address),
});
show("estimateGas", await token.transfer.estimateGas(receiver, 1));
const events = await token.queryFilter("Transfer", 0, "latest");
show("queryFilter", events.map((event) => event.args.value));

// A listener; the node's filters are not served, so ethers polls.
const heard = new Promise((resolve) => {
  token.on("Transfer", (from, to, value, event) => resolve({ from, to, value, hash: event.log.transactionHash }));
});
await within(token.listenerCount("Transfer"), "listening");
// The listener reports blocks after the one in which it began; let it begin.
await within(new Promise((resolve) => {
  const timer = setInterval(() => {
    if (methods.has("eth_newFilter")) resolve(clearInterval(timer));
  }, 10);
}), "the first poll");

const before = await provider.getBalance(receiver);
const payment = await wallet.sendTransaction({ to: receiver, value: parseEther("0.25") });
const receipt = await within(payment.wait(), "the receipt");
const after = await provider.getBalance(receiver);
show("payment", { status: receipt.status, received: after - before });
show("transaction", (await provider.getTransaction(payment.hash)).blockHash === receipt.blockHash);

const sent = await token.transfer(receiver, 777n);
await within(sent.wait(), "the token's receipt");
show("tokenBalance", await token.balanceOf(receiver));
const event = await within(heard, "the event");
show("event", { ...event, hash: event.hash === sent.hash });
await token.off("Transfer");
show("methods", [...methods].sort());

largestBatch = 0;
const numbers = Array.from({ length: 20 }, (_, i) => i % (start + 1));
const batch = await Promise.all(numbers.map((number) => provider.getBlock(number)));
show("batch", { size: largestBatch, right: batch.every((block, i) => block.number === numbers[i]) });

show("reverted", await failure(token.transfer.staticCall(ZeroAddress, 1)));
show("revertedEstimate", await failure(token.transfer.estimateGas(ZeroAddress, 1)));
show("refused", await failure(provider.broadcastTransaction(await wallet.signTransaction({
  to: receiver, value: 1, nonce: 0, chainId: 31337, gasLimit: 21000, maxFeePerGas: 10n ** 11n, maxPriorityFeePerGas: 1, type: 2,
}))));
show("unknownBlock", await provider.getBlock(start + 1_000_000));
provider.destroy();
