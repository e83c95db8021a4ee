//! Spells out what a document refers to.

use std::collections::BTreeMap;

use lookout_rules::{MAX_LABELLED, Rule, RuleDocument, RuleError, RuleId, RuleSource, builtin_abi};
use lookout_types::{Address, ChainId};
use serde::Serialize;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use super::CHANGING;
use crate::labels::parse_addresses;
use crate::{Store, StoreError};

impl Store {
    /// All that a document would be compiled from now: nothing is saved.
    ///
    /// # Errors
    /// [`StoreError::Rule`] for an ABI that the tenant does not have.
    pub async fn rule_source(
        &self,
        tenant: &str,
        chain: ChainId,
        document: &RuleDocument,
    ) -> Result<RuleSource, StoreError> {
        let mut connection = self.pool().acquire().await.map_err(StoreError::database(CHANGING))?;
        self.source_in(&mut connection, tenant, chain, document).await
    }

    pub(super) async fn source_in(
        &self,
        connection: &mut AnyConnection,
        tenant: &str,
        chain: ChainId,
        document: &RuleDocument,
    ) -> Result<RuleSource, StoreError> {
        let abi = match document.abi() {
            None => None,
            Some(name) => Some(abi(connection, tenant, name).await?),
        };
        let (mut labels, mut labelled) = (BTreeMap::new(), 0);
        for name in document.label_names() {
            // One that is not there is left out: the compiler says where it is used.
            if let Some(addresses) = label(connection, tenant, &name).await? {
                labelled += addresses.len();
                if labelled > MAX_LABELLED {
                    return Err(StoreError::Rule(RuleError::Invalid(format!(
                        "the labels of the rule hold more than {MAX_LABELLED} addresses; use fewer"
                    ))));
                }
                labels.insert(name, addresses);
            }
        }
        // A version keeps what it uses: an ABI has up to a megabyte, and there may be many versions.
        Ok(RuleSource { chain, document: document.clone(), abi, labels }.narrowed())
    }
}

async fn abi(
    connection: &mut AnyConnection,
    tenant: &str,
    name: &str,
) -> Result<String, StoreError> {
    if let Some(text) = builtin_abi(name) {
        return Ok(text.to_owned());
    }
    let failed = StoreError::database(CHANGING);
    let row = sqlx::query(
        "SELECT abi FROM abis \
         WHERE tenant_id = $1 AND (name = $2 OR id = $2) AND deleted_at IS NULL",
    )
    .bind(tenant.to_owned())
    .bind(name.replace('\0', "?"))
    .fetch_optional(connection)
    .await
    .map_err(&failed)?;
    let Some(row) = row else {
        let shown: String = name.escape_debug().take(80).collect();
        return Err(StoreError::Rule(RuleError::Invalid(format!(
            "there is no ABI `{shown}`; upload it first, use erc20, erc721 or erc1155, or leave `abi` \
             out and spell out the signature"
        ))));
    };
    row.try_get("abi").map_err(failed)
}

async fn label(
    connection: &mut AnyConnection,
    tenant: &str,
    name: &str,
) -> Result<Option<Vec<Address>>, StoreError> {
    let failed = StoreError::database(CHANGING);
    let row = sqlx::query("SELECT addresses FROM labels WHERE tenant_id = $1 AND name = $2")
        .bind(tenant.to_owned())
        .bind(name.replace('\0', "?"))
        .fetch_optional(connection)
        .await
        .map_err(&failed)?;
    let Some(row) = row else { return Ok(None) };
    let text: String = row.try_get("addresses").map_err(failed)?;
    parse_addresses(name, &text).map(Some)
}

/// Compiles a version of a stored rule.
pub(super) fn compile(source: &RuleSource, id: &str, version: u32) -> Result<Rule, StoreError> {
    let uuid = Uuid::try_parse(id)
        .map_err(|error| StoreError::Corrupt(format!("id of rule `{id}`: {error}")))?;
    Ok(source.compile(RuleId(uuid.as_u128()), version)?)
}

/// JSON for a column.
pub(super) fn json_text(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Corrupt(format!("a rule cannot be written: {error}")))
}
