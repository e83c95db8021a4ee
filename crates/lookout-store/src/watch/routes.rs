//! Whose rules are, and where their alerts go: read once per commit.

use std::collections::{BTreeSet, HashMap};

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::rows::{LIST, bind_list, with_list};
use super::to_count;
use crate::StoreError;

const READING: &str = "reading where alerts go";

/// A rule as its alerts need it.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) tenant: String,
    pub(super) confirmations: u64,
    /// The channels that are there; none for a deleted rule.
    pub(super) channels: Vec<String>,
}

/// The routes of the rules of one commit.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// `None` for a rule that is gone altogether.
    rules: HashMap<String, Option<Route>>,
    /// The tenant of each channel that is there.
    channels: HashMap<String, Option<String>>,
}

impl Routes {
    /// Reads the routes of rules, as far as they are not known.
    pub(super) async fn load(
        &mut self,
        connection: &mut AnyConnection,
        rule_ids: impl Iterator<Item = &str>,
    ) -> Result<(), StoreError> {
        let unknown: BTreeSet<&str> = rule_ids.filter(|id| !self.rules.contains_key(*id)).collect();
        let unknown: Vec<&str> = unknown.into_iter().collect();
        for chunk in unknown.chunks(LIST) {
            let query = with_list(
                "SELECT id, tenant_id, confirmations, channels, deleted_at FROM rules \
                 WHERE id IN ({})",
                1,
            );
            let rows = bind_list(query, chunk.iter().copied()).fetch_all(&mut *connection).await;
            let rows = rows.map_err(StoreError::database(READING))?;
            let read: Vec<_> = rows.iter().map(read).collect::<Result<_, _>>()?;
            let named = read.iter().flat_map(|(_, route)| route.channels.iter());
            self.load_channels(connection, named.map(String::as_str)).await?;
            for id in chunk {
                self.rules.insert((*id).to_owned(), None);
            }
            for (id, mut route) in read {
                route.channels.retain(|channel| {
                    self.channels.get(channel).is_some_and(|of| of.as_ref() == Some(&route.tenant))
                });
                self.rules.insert(id, Some(route));
            }
        }
        Ok(())
    }

    async fn load_channels(
        &mut self,
        connection: &mut AnyConnection,
        ids: impl Iterator<Item = &str>,
    ) -> Result<(), StoreError> {
        let unknown: BTreeSet<&str> = ids.filter(|id| !self.channels.contains_key(*id)).collect();
        let unknown: Vec<&str> = unknown.into_iter().collect();
        for chunk in unknown.chunks(LIST) {
            let query = with_list(
                "SELECT id, tenant_id FROM channels WHERE deleted_at IS NULL AND id IN ({})",
                1,
            );
            let rows = bind_list(query, chunk.iter().copied()).fetch_all(&mut *connection).await;
            for id in chunk {
                self.channels.insert((*id).to_owned(), None);
            }
            for row in rows.map_err(StoreError::database(READING))? {
                let id = row.try_get("id").map_err(StoreError::database(READING))?;
                let tenant = row.try_get("tenant_id").map_err(StoreError::database(READING))?;
                self.channels.insert(id, Some(tenant));
            }
        }
        Ok(())
    }

    /// The route of a rule that was loaded; `None` when the rule is gone.
    pub(super) fn get(&self, rule_id: &str) -> Option<&Route> {
        self.rules.get(rule_id)?.as_ref()
    }
}

fn read(row: &AnyRow) -> Result<(String, Route), StoreError> {
    let failed = StoreError::database(READING);
    let id: String = row.try_get("id").map_err(&failed)?;
    let channels: String = row.try_get("channels").map_err(&failed)?;
    let deleted: Option<i64> = row.try_get("deleted_at").map_err(&failed)?;
    let mut channels: Vec<String> = serde_json::from_str(&channels)
        .map_err(|error| StoreError::Corrupt(format!("channels of rule `{id}`: {error}")))?;
    if deleted.is_some() {
        channels.clear();
    }
    let route = Route {
        tenant: row.try_get("tenant_id").map_err(&failed)?,
        confirmations: to_count(row.try_get("confirmations").map_err(&failed)?)?,
        channels,
    };
    Ok((id, route))
}
