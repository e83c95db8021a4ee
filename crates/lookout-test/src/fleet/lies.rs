//! How results are falsified.

use serde_json::{Value, json};

use super::behaviour::Behaviour;
use crate::anvil::hex;

const BALANCE_OF: &str = "0x70a08231";

/// Falsifies a result where the behaviour is a lie about this kind of call.
pub(super) fn tell(behaviour: &Behaviour, call: &Value, result: &mut Value) {
    let method = call["method"].as_str().unwrap_or_default();
    let is_block = matches!(method, "eth_getBlockByNumber" | "eth_getBlockByHash");
    match behaviour {
        Behaviour::WrongChainId { id } if method == "eth_chainId" => *result = json!(hex(*id)),
        Behaviour::WrongChainId { id } if method == "net_version" => {
            *result = json!(id.to_string())
        }
        Behaviour::WrongBalance { delta } => wrong_balance(method, call, *delta, result),
        Behaviour::WrongBlockHash if is_block => flip(result, "hash"),
        Behaviour::FlippedDigit { field } if is_block => flip(result, field),
        Behaviour::FlippedReceipt { field } => match method {
            "eth_getTransactionReceipt" => flip(result, field),
            "eth_getBlockReceipts" => {
                result.as_array_mut().into_iter().flatten().for_each(|one| flip(one, field));
            }
            _ => {}
        },
        Behaviour::MissingLogs => drop_logs(method, result),
        Behaviour::LogsOfAnotherBlock if method == "eth_getLogs" => {
            result.as_array_mut().into_iter().flatten().for_each(|log| flip(log, "blockHash"));
        }
        _ => {}
    }
}

fn wrong_balance(method: &str, call: &Value, delta: u64, result: &mut Value) {
    match method {
        "eth_getBalance" => add(result, delta),
        "eth_call" => {
            let request = &call["params"][0];
            let data = request.get("input").or_else(|| request.get("data"));
            if data.and_then(Value::as_str).is_some_and(|data| data.starts_with(BALANCE_OF)) {
                add(result, delta);
            }
        }
        "eth_getProof" => {
            if let Some(balance) = result.get_mut("balance") {
                add(balance, delta);
            }
            for slot in result["storageProof"].as_array_mut().into_iter().flatten() {
                add(&mut slot["value"], delta);
            }
        }
        _ => {}
    }
}

/// Adds to a 0x-number of up to 256 bits, keeping its width where it is a word.
fn add(number: &mut Value, delta: u64) {
    let Some(digits) = number.as_str().and_then(|text| text.strip_prefix("0x")) else { return };
    let mut carry = u128::from(delta);
    let mut sum = Vec::with_capacity(64);
    for digit in digits.chars().rev().chain(std::iter::repeat('0')).take(64) {
        carry += u128::from(digit.to_digit(16).unwrap_or(0));
        sum.push(char::from_digit(u32::try_from(carry % 16).unwrap_or(0), 16).unwrap_or('0'));
        carry /= 16;
    }
    let word: String = sum.iter().rev().collect();
    let short = word.trim_start_matches('0');
    *number = match (digits.len(), short) {
        (64, _) => json!(format!("0x{word}")),
        (_, "") => json!("0x0"),
        (_, short) => json!(format!("0x{short}")),
    };
}

/// Changes the last hex digit of a field, by the lowest bit that keeps it a digit.
fn flip(object: &mut Value, path: &str) {
    let mut field = object;
    for step in path.split('.') {
        let next = match step.parse::<usize>() {
            Ok(index) => field.get_mut(index),
            Err(_) => field.get_mut(step),
        };
        let Some(next) = next else { return };
        field = next;
    }
    let Some(text) = field.as_str() else { return };
    let mut digits: Vec<char> = text.chars().collect();
    if let Some(last) = digits.last_mut().filter(|last| last.is_ascii_hexdigit()) {
        let flipped = last.to_digit(16).unwrap_or(0) ^ 1;
        *last = char::from_digit(flipped, 16).unwrap_or('0');
    }
    *field = json!(digits.into_iter().collect::<String>());
}

fn drop_logs(method: &str, result: &mut Value) {
    match method {
        "eth_getLogs" => {
            if let Some(logs) = result.as_array_mut() {
                logs.pop();
            }
        }
        "eth_getTransactionReceipt" => without_logs(result),
        "eth_getBlockReceipts" => {
            result.as_array_mut().into_iter().flatten().for_each(without_logs);
        }
        _ => {}
    }
}

fn without_logs(receipt: &mut Value) {
    if receipt.get("logs").is_some() {
        receipt["logs"] = json!([]);
    }
}

#[cfg(test)]
mod tests {
    //! The arithmetic of lying.

    use super::*;

    #[test]
    fn adds_with_carry_and_keeps_words() {
        let check = |number: &str, delta, expected: &str| {
            let mut number = json!(number);
            add(&mut number, delta);
            assert_eq!(number, json!(expected));
        };
        check("0x0", 0, "0x0");
        check("0x0", 1, "0x1");
        check("0xff", 1, "0x100");
        check("0x1ffffffffffffffff", u64::MAX, "0x2fffffffffffffffe");
        check(&format!("0x{:064x}", 15), 1, &format!("0x{:064x}", 16));
        check(&format!("0x{}", "f".repeat(64)), 1, &format!("0x{}", "0".repeat(64)));
    }

    #[test]
    fn flips_one_digit_at_any_depth() {
        let mut block = json!({"stateRoot": "0xa0", "transactions": [{"value": "0x1"}]});
        flip(&mut block, "stateRoot");
        flip(&mut block, "transactions.0.value");
        flip(&mut block, "transactions.9.value");
        assert_eq!(block, json!({"stateRoot": "0xa1", "transactions": [{"value": "0x0"}]}));
    }
}
