"""The ordinary calls of a web3.py program, unchanged but for the URL.

Usage: python web3_client.py RPC-URL TOKEN PRIVATE-KEY RECEIVER
"""

import sys

from web3 import Web3
from web3.exceptions import BlockNotFound, ContractLogicError, TransactionNotFound

URL, TOKEN, PRIVATE_KEY, RECEIVER = sys.argv[1:]
ABI = [
    {"type": "function", "name": "decimals", "stateMutability": "view", "inputs": [],
     "outputs": [{"name": "", "type": "uint8"}]},
    {"type": "function", "name": "balanceOf", "stateMutability": "view",
     "inputs": [{"name": "a", "type": "address"}], "outputs": [{"name": "", "type": "uint256"}]},
    {"type": "function", "name": "transfer", "stateMutability": "nonpayable",
     "inputs": [{"name": "to", "type": "address"}, {"name": "value", "type": "uint256"}],
     "outputs": [{"name": "", "type": "bool"}]},
    {"type": "event", "name": "Transfer", "anonymous": False, "inputs": [
        {"name": "from", "type": "address", "indexed": True},
        {"name": "to", "type": "address", "indexed": True},
        {"name": "value", "type": "uint256", "indexed": False}]},
]

w3 = Web3(Web3.HTTPProvider(URL))
account = w3.eth.account.from_key(PRIVATE_KEY)
token = w3.eth.contract(address=Web3.to_checksum_address(TOKEN), abi=ABI)


def reads():
    assert w3.is_connected()
    assert w3.eth.chain_id == 31337
    height = w3.eth.block_number
    block = w3.eth.get_block(height, full_transactions=True)
    assert block.number == height
    assert w3.eth.get_block(block.hash).hash == block.hash
    for transaction in block.transactions:
        assert w3.eth.get_transaction_receipt(transaction.hash).blockHash == block.hash
        assert w3.eth.get_transaction(transaction.hash)["from"] == transaction["from"]
    assert w3.eth.get_balance(account.address) > 0
    assert w3.eth.get_transaction_count(account.address) > 0
    assert w3.eth.gas_price > 0
    assert len(w3.eth.fee_history(4, "latest", [50]).reward) == 4
    assert len(w3.eth.get_code(token.address)) > 0
    assert len(w3.eth.get_proof(token.address, ["0x" + "00" * 32], "latest").storageProof) == 1
    for missing, error in [
        (lambda: w3.eth.get_block(height + 1_000_000), BlockNotFound),
        (lambda: w3.eth.get_transaction("0x" + "11" * 32), TransactionNotFound),
    ]:
        try:
            missing()
        except error:
            continue
        raise AssertionError(f"{error.__name__} was not raised")


def contracts():
    assert token.functions.decimals().call() == 6
    assert token.functions.balanceOf(account.address).call() > 0
    gas = token.functions.transfer(RECEIVER, 1).estimate_gas({"from": account.address})
    assert gas > 21_000
    minted = token.events.Transfer().get_logs(
        from_block=0, argument_filters={"from": "0x" + "00" * 20}
    )
    assert [log.args.to for log in minted] == [account.address]


def send(transaction):
    signed = account.sign_transaction(transaction)
    sent = w3.eth.send_raw_transaction(signed.raw_transaction)
    receipt = w3.eth.wait_for_transaction_receipt(sent, timeout=30, poll_latency=0.02)
    assert receipt.status == 1
    return receipt


def base():
    return {
        "from": account.address,
        "chainId": w3.eth.chain_id,
        "nonce": w3.eth.get_transaction_count(account.address),
        "maxFeePerGas": 3 * w3.eth.gas_price,
        "maxPriorityFeePerGas": w3.eth.max_priority_fee,
    }


def sends():
    before = w3.eth.get_balance(RECEIVER)
    receipt = send(base() | {"to": RECEIVER, "value": 54_321, "gas": 21_000})
    # What was just written is read: the receipt's block is not ahead of the balance's.
    assert w3.eth.get_balance(RECEIVER) == before + 54_321
    assert w3.eth.get_block(receipt.blockNumber).hash == receipt.blockHash
    units = token.functions.balanceOf(RECEIVER).call()
    receipt = send(token.functions.transfer(RECEIVER, 99).build_transaction(base()))
    assert token.functions.balanceOf(RECEIVER).call() == units + 99
    assert token.events.Transfer().process_receipt(receipt)[0].args.value == 99


def errors():
    for act in ("call", "estimate_gas"):
        try:
            getattr(token.functions.transfer(RECEIVER, 2**200), act)({"from": account.address})
        except ContractLogicError as error:
            assert "balance too low" in str(error), error
        else:
            raise AssertionError(f"{act} did not revert")


def batches():
    with w3.batch_requests() as batch:
        for height in range(10):
            batch.add(w3.eth.get_block(height))
        blocks = batch.execute()
    assert [block.number for block in blocks] == list(range(10))


for part in (reads, contracts, sends, errors, batches):
    part()
    print(f"{part.__name__} ok", flush=True)
