//! The demo ERC-20 of `contracts/DemoToken.sol`: its artifact, its calls.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::anvil::Anvil;
use crate::rpc::parse_quantity;

/// The committed artifact; `dev/compile-contracts` makes it.
pub const ARTIFACT: &str = include_str!("../../../contracts/artifacts/DemoToken.json");
/// Decimals of the token.
pub const DECIMALS: u8 = 6;
/// Supply in the smallest unit: a thousand million tokens.
pub const SUPPLY: u64 = 1_000_000_000_000_000;
/// `Transfer(address,address,uint256)`.
pub const TRANSFER_TOPIC: &str =
    "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";

/// A deployed demo token.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its address, as the node writes it.
    pub address: String,
    /// The height of its deployment.
    pub height: u64,
}

impl Token {
    pub(crate) async fn deploy(anvil: &Anvil) -> Result<Self> {
        let artifact: Value = serde_json::from_str(ARTIFACT).context("DemoToken.json")?;
        let code = artifact["bytecode"].as_str().context("no bytecode")?;
        let data = format!("{code}{}", word(SUPPLY));
        let receipt = anvil.send(json!({"from": anvil.account(0), "data": data})).await?;
        ensure!(receipt["status"] == "0x1", "the deployment failed: {receipt}");
        let address = receipt["contractAddress"].as_str().context("no address")?.to_owned();
        Ok(Self { address, height: parse_quantity(&receipt["blockNumber"])? })
    }

    /// Moves units of the token from an account of the node; gives the receipt.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn transfer(
        &self,
        anvil: &Anvil,
        from: usize,
        to: &str,
        units: u64,
    ) -> Result<Value> {
        let data = Self::transfer_data(to, units)?;
        let from = anvil.account(from);
        anvil.send(json!({"from": from, "to": self.address, "data": data})).await
    }

    /// What the node says that an address holds.
    ///
    /// # Errors
    /// When the node does not answer with a 64-bit number.
    pub async fn balance_of(&self, anvil: &Anvil, holder: &str) -> Result<u64> {
        let call = json!({"to": self.address, "data": Self::balance_data(holder)?});
        parse_quantity(&anvil.rpc("eth_call", json!([call, "latest"])).await?)
    }

    /// Call data of `balanceOf(holder)`.
    ///
    /// # Errors
    /// When the holder is no address.
    pub fn balance_data(holder: &str) -> Result<String> {
        Ok(format!("0x70a08231{}", address_word(holder)?))
    }

    /// Call data of `transfer(to, units)`.
    ///
    /// # Errors
    /// When the receiver is no address.
    pub fn transfer_data(to: &str, units: u64) -> Result<String> {
        Ok(format!("0xa9059cbb{}{}", address_word(to)?, word(units)))
    }
}

fn word(number: u64) -> String {
    format!("{number:064x}")
}

fn address_word(address: &str) -> Result<String> {
    let digits = address.strip_prefix("0x").context("an address starts with 0x")?;
    ensure!(digits.len() == 40, "{address} is no address");
    Ok(format!("{:0>64}", digits.to_lowercase()))
}

#[cfg(test)]
mod tests;
