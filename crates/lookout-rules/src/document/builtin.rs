//! ABIs that every installation has.

/// The token standards by name: ERC-20, ERC-721 and ERC-1155, events and transfer functions.
///
/// An uploaded ABI of the same name does not hide them, so that a rule means the same everywhere.
pub fn builtin_abi(name: &str) -> Option<&'static str> {
    match name {
        "erc20" => Some(ERC20),
        "erc721" => Some(ERC721),
        "erc1155" => Some(ERC1155),
        _ => None,
    }
}

const ERC20: &str = r#"[
"event Transfer(address indexed from, address indexed to, uint256 value)",
"event Approval(address indexed owner, address indexed spender, uint256 value)",
"function transfer(address to, uint256 value)",
"function transferFrom(address from, address to, uint256 value)",
"function approve(address spender, uint256 value)"]"#;

const ERC721: &str = r#"[
"event Transfer(address indexed from, address indexed to, uint256 indexed tokenId)",
"event Approval(address indexed owner, address indexed approved, uint256 indexed tokenId)",
"event ApprovalForAll(address indexed owner, address indexed operator, bool approved)",
"function transferFrom(address from, address to, uint256 tokenId)",
"function safeTransferFrom(address from, address to, uint256 tokenId)",
"function approve(address to, uint256 tokenId)",
"function setApprovalForAll(address operator, bool approved)"]"#;

const ERC1155: &str = r#"[
"event TransferSingle(address indexed operator, address indexed from, address indexed to, uint256 id, uint256 value)",
"event TransferBatch(address indexed operator, address indexed from, address indexed to, uint256[] ids, uint256[] values)",
"event ApprovalForAll(address indexed account, address indexed operator, bool approved)",
"event URI(string value, uint256 indexed id)",
"function safeTransferFrom(address from, address to, uint256 id, uint256 value, bytes data)",
"function safeBatchTransferFrom(address from, address to, uint256[] ids, uint256[] values, bytes data)",
"function setApprovalForAll(address operator, bool approved)"]"#;

#[cfg(test)]
mod tests {
    use lookout_abi::Abi;
    use lookout_types::{TRANSFER, TRANSFER_BATCH, TRANSFER_SINGLE};

    use super::*;

    #[test]
    fn the_standards_parse_and_have_their_well_known_topics() {
        for (name, event, topic) in [
            ("erc20", "Transfer", TRANSFER),
            ("erc721", "Transfer", TRANSFER),
            ("erc1155", "TransferSingle", TRANSFER_SINGLE),
            ("erc1155", "TransferBatch", TRANSFER_BATCH),
        ] {
            let abi = Abi::parse(builtin_abi(name).unwrap()).unwrap();
            assert_eq!(abi.event(event).unwrap().topic0, topic, "{name}");
            assert!(!abi.functions().is_empty());
        }
        assert_eq!(builtin_abi("erc4626"), None);
    }
}
