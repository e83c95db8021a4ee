"""An ordinary web3.py program, pointed at Lookout instead of at a node.

usage: web3_client.py RPC_URL PRIVATE_KEY TOKEN RECEIVER
Prints one JSON object a line, {"step": …, "value": …}; the test compares them with the node.
"""

import json
import sys

from web3 import Web3

URL, KEY, TOKEN, RECEIVER = sys.argv[1:]
ZERO = "0x" + "00" * 20
# Longest wait for anything that the chain does at once.
WITHIN_SECONDS = 30
UINT, ADDRESS = "uint256", "address"


def parameter(name, kind, **more):
    return {"name": name, "type": kind, **more}


ABI = [
    {"type": "function", "name": "name", "stateMutability": "view", "inputs": [], "outputs": [parameter("", "string")]},
    {"type": "function", "name": "balanceOf", "stateMutability": "view",
     "inputs": [parameter("holder", ADDRESS)], "outputs": [parameter("", UINT)]},
    {"type": "function", "name": "transfer", "stateMutability": "nonpayable",
     "inputs": [parameter("to", ADDRESS), parameter("value", UINT)], "outputs": [parameter("", "bool")]},
    {"type": "event", "name": "Transfer", "anonymous": False, "inputs": [
        parameter("from", ADDRESS, indexed=True), parameter("to", ADDRESS, indexed=True),
        parameter("value", UINT, indexed=False)]},
]


def show(step, value):
    print(json.dumps({"step": step, "value": value}), flush=True)


def failure(act):
    try:
        return {"error": None, "result": str(act())}
    except Exception as error:  # noqa: BLE001 - what it is, is the answer
        return {"error": type(error).__name__, "message": str(error)}


w3 = Web3(Web3.HTTPProvider(URL, request_kwargs={"timeout": WITHIN_SECONDS}))
account = w3.eth.account.from_key(KEY)
token = w3.eth.contract(address=Web3.to_checksum_address(TOKEN), abi=ABI)
receiver = Web3.to_checksum_address(RECEIVER)


def send(transaction):
    signed = account.sign_transaction(transaction)
    sent = w3.eth.send_raw_transaction(signed.raw_transaction)
    return w3.eth.wait_for_transaction_receipt(sent, timeout=WITHIN_SECONDS, poll_latency=0.02)


show("isConnected", w3.is_connected())
show("chainId", w3.eth.chain_id)
start = w3.eth.block_number
show("blockNumber", start)
block = w3.eth.get_block(start, full_transactions=True)
show("block", {"hash": block.hash.to_0x_hex(), "transactions": [tx.hash.to_0x_hex() for tx in block.transactions]})
show("blockByHash", w3.eth.get_block(block.hash).number)
show("transactionCount", w3.eth.get_block_transaction_count(start))
show("balance", str(w3.eth.get_balance(account.address)))
show("nonce", w3.eth.get_transaction_count(account.address))
show("code", w3.eth.get_code(token.address).to_0x_hex())
show("storage", w3.eth.get_storage_at(token.address, 7).to_0x_hex())
show("gasPrice", w3.eth.gas_price > 0 and w3.eth.max_priority_fee >= 0)
show("feeHistory", [hex(fee) for fee in w3.eth.fee_history(2, "latest", [50])["baseFeePerGas"]])
show("proof", str(w3.eth.get_proof(account.address, ["0x" + "00" * 32], start).balance))

show("token", {"name": token.functions.name().call(), "balance": str(token.functions.balanceOf(account.address).call())})
show("estimateGas", token.functions.transfer(receiver, 1).estimate_gas({"from": account.address}))
show("getLogs", [str(log.args.value) for log in token.events.Transfer.get_logs(from_block=0)])

before = w3.eth.get_balance(receiver)
fees = {"maxFeePerGas": w3.eth.gas_price * 2, "maxPriorityFeePerGas": w3.eth.max_priority_fee, "chainId": w3.eth.chain_id}
nonce = w3.eth.get_transaction_count(account.address, "pending")
receipt = send({"to": receiver, "value": Web3.to_wei("0.25", "ether"), "gas": 21000, "nonce": nonce, **fees})
show("payment", {"status": receipt.status, "received": str(w3.eth.get_balance(receiver) - before)})
show("transaction", w3.eth.get_transaction(receipt.transactionHash).blockHash == receipt.blockHash)
show("nonceAfter", w3.eth.get_transaction_count(account.address) - nonce)

call = token.functions.transfer(receiver, 777)
receipt = send(call.build_transaction({"from": account.address, "nonce": nonce + 1, **fees}))
show("tokenBalance", str(token.functions.balanceOf(receiver).call()))
show("event", [str(log.args.value) for log in token.events.Transfer().process_receipt(receipt)])
show("logsOfBlock", len(w3.eth.get_logs({"blockHash": receipt.blockHash})))

with w3.batch_requests() as batch:
    for number in range(start + 1):
        batch.add(w3.eth.get_block(number))
    answers = batch.execute()
show("batch", [block.number for block in answers] == list(range(start + 1)))

zero = token.functions.transfer(ZERO, 1)
show("reverted", failure(lambda: zero.call({"from": account.address})))
show("revertedEstimate", failure(lambda: zero.estimate_gas({"from": account.address})))
show("refused", failure(lambda: w3.eth.send_raw_transaction(account.sign_transaction(
    {"to": receiver, "value": 1, "gas": 21000, "nonce": 0, **fees}).raw_transaction)))
show("filter", failure(lambda: w3.eth.filter("latest")))
show("unknownBlock", failure(lambda: w3.eth.get_block(start + 1_000_000)))
show("unknownTransaction", failure(lambda: w3.eth.get_transaction("0x" + "11" * 32)))
