//! ABIs by name, parsed once: built-in ones and those that a tenant uploaded.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use lookout_abi::{Abi, BUILTIN_NAMES, builtin};
use lookout_store::Store;
use moka::sync::Cache;

use crate::error::{ApiError, Code};

/// Text of the ABIs that are kept parsed, in bytes; parsed they take several times that.
const CACHE_BYTES: u64 = 8 << 20;

/// Longest name of an ABI, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Parsed ABIs. Uploaded ones are kept by id, because the text of an id never changes.
#[derive(Debug)]
pub(crate) struct AbiCache {
    builtin: OnceLock<HashMap<&'static str, Arc<Abi>>>,
    uploaded: Cache<String, (Arc<Abi>, u32)>,
}

impl AbiCache {
    pub(crate) fn new() -> Self {
        let weigh = |_: &String, (_, bytes): &(Arc<Abi>, u32)| *bytes;
        let uploaded = Cache::builder().max_capacity(CACHE_BYTES).weigher(weigh).build();
        Self { builtin: OnceLock::new(), uploaded }
    }

    /// The ABI of a tenant, or the built-in one, with this name or id.
    pub(crate) async fn get(
        &self,
        store: &Store,
        tenant: &str,
        name: &str,
    ) -> Result<Arc<Abi>, ApiError> {
        if let Some(abi) = self.builtin.get_or_init(parse_builtin).get(name) {
            return Ok(abi.clone());
        }
        let unknown = || {
            let name: String = name.escape_debug().take(80).collect();
            let builtin = BUILTIN_NAMES.join(", ");
            let detail =
                format!("no ABI `{name}`; upload it with POST /v1/abis, or use one of {builtin}");
            ApiError::new(Code::InvalidParameter, detail)
        };
        if !is_abi_name(name) {
            return Err(unknown());
        }
        // Asked for every time: it may be deleted, or the name stand for another by now.
        let info = store.find_abi(tenant, name).await?.ok_or_else(unknown)?;
        if let Some((abi, _)) = self.uploaded.get(&info.id) {
            return Ok(abi);
        }
        let text = store.abi_text(tenant, &info.id).await?.ok_or_else(unknown)?;
        // It was parsed when it was saved.
        let abi = Arc::new(Abi::parse(&text).map_err(ApiError::internal)?);
        let bytes = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.uploaded.insert(info.id, (abi.clone(), bytes));
        Ok(abi)
    }
}

/// Whether a text can name an ABI. Postgres would refuse some others with errors of its own.
pub(crate) fn is_abi_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn parse_builtin() -> HashMap<&'static str, Arc<Abi>> {
    let parse = |name: &'static str| {
        let abi = Abi::parse(builtin(name)?);
        // A constant; a failure would fail the tests.
        Some((name, Arc::new(abi.unwrap_or_default())))
    };
    BUILTIN_NAMES.into_iter().filter_map(parse).collect()
}
