//! The ABIs of the token standards, which everyone would otherwise upload.

/// Their names; no uploaded ABI can have one of them.
pub const BUILTIN_NAMES: [&str; 3] = ["erc20", "erc721", "erc1155"];

const ERC20: &str = r#"[
    "event Transfer(address indexed from, address indexed to, uint256 value)",
    "event Approval(address indexed owner, address indexed spender, uint256 value)",
    "function transfer(address to, uint256 value)",
    "function approve(address spender, uint256 value)",
    "function transferFrom(address from, address to, uint256 value)"
]"#;

const ERC721: &str = r#"[
    "event Transfer(address indexed from, address indexed to, uint256 indexed tokenId)",
    "event Approval(address indexed owner, address indexed approved, uint256 indexed tokenId)",
    "event ApprovalForAll(address indexed owner, address indexed operator, bool approved)",
    "function transferFrom(address from, address to, uint256 tokenId)",
    "function safeTransferFrom(address from, address to, uint256 tokenId)",
    "function safeTransferFrom(address from, address to, uint256 tokenId, bytes data)",
    "function approve(address approved, uint256 tokenId)",
    "function setApprovalForAll(address operator, bool approved)"
]"#;

const ERC1155: &str = r#"[
    "event TransferSingle(address indexed operator, address indexed from, address indexed to, uint256 id, uint256 value)",
    "event TransferBatch(address indexed operator, address indexed from, address indexed to, uint256[] ids, uint256[] values)",
    "event ApprovalForAll(address indexed owner, address indexed operator, bool approved)",
    "event URI(string value, uint256 indexed id)",
    "function safeTransferFrom(address from, address to, uint256 id, uint256 value, bytes data)",
    "function safeBatchTransferFrom(address from, address to, uint256[] ids, uint256[] values, bytes data)",
    "function setApprovalForAll(address operator, bool approved)"
]"#;

/// The text of a built-in ABI, for [`Abi::parse`](crate::Abi::parse).
pub fn builtin(name: &str) -> Option<&'static str> {
    match name {
        "erc20" => Some(ERC20),
        "erc721" => Some(ERC721),
        "erc1155" => Some(ERC1155),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lookout_types::{TRANSFER, TRANSFER_BATCH, TRANSFER_SINGLE};

    use super::*;
    use crate::Abi;

    #[test]
    fn each_parses_and_its_transfers_are_the_ones_that_the_chain_has() {
        let abi = |name: &str| Abi::parse(builtin(name).unwrap()).unwrap();
        for name in ["erc20", "erc721"] {
            assert_eq!(abi(name).event("Transfer").unwrap().topic0, TRANSFER);
        }
        // Only what is indexed tells them apart.
        assert_eq!(abi("erc20").event("Transfer").unwrap().topic_count(), 3);
        assert_eq!(abi("erc721").event("Transfer").unwrap().topic_count(), 4);
        assert_eq!(abi("erc1155").event("TransferSingle").unwrap().topic0, TRANSFER_SINGLE);
        assert_eq!(abi("erc1155").event("TransferBatch").unwrap().topic0, TRANSFER_BATCH);
        // Selectors as the standards' explorers list them.
        assert_eq!(abi("erc20").function("transfer").unwrap().selector, [0xa9, 0x05, 0x9c, 0xbb]);
        let batch = abi("erc1155").function("safeBatchTransferFrom").unwrap().selector;
        assert_eq!(batch, [0x2e, 0xb2, 0xc2, 0xd6]);
        assert!(BUILTIN_NAMES.iter().all(|name| builtin(name).is_some()));
        assert_eq!(builtin("ERC20"), None);
    }
}
