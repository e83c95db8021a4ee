//! The side of the outbox that alerts are put into.

use std::collections::BTreeMap;

use lookout_types::UnixMillis;
use sqlx::{AnyConnection, Row};

use super::rows::{Insert, LIST, bind_list, with_list};
use crate::{Store, StoreError};

const QUEUEING: &str = "queueing deliveries";
const WITHDRAWING: &str = "withdrawing deliveries";

/// An alert to be sent on a channel.
#[derive(Debug)]
pub(super) struct NewDelivery {
    pub(super) tenant: String,
    pub(super) alert_id: String,
    pub(super) channel_id: String,
    /// `alert` or `retraction`.
    pub(super) kind: &'static str,
}

/// An alert by tenant and id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AlertRef {
    pub(super) tenant: String,
    pub(super) id: String,
}

/// Deliveries queued and cancelled.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Withdrawn {
    pub(super) queued: u64,
    pub(super) cancelled: u64,
}

impl Store {
    /// Queues deliveries; one that was ever queued for the same alert, channel and kind is left as
    /// it is. Returns how many are new.
    pub(super) async fn queue_deliveries(
        &self,
        connection: &mut AnyConnection,
        new: &[NewDelivery],
        now: UnixMillis,
    ) -> Result<u64, StoreError> {
        // By a clock that all go by, or a wrong one here would hold them back; never later than
        // what this instance takes for now.
        let due_at = now.min(self.shared_now(connection).await?);
        let insert = Insert {
            before: "INSERT INTO deliveries \
                     (tenant_id, id, channel_id, alert_id, kind, state, attempts, due_at, created_at)",
            columns: 9,
            after: "ON CONFLICT (tenant_id, alert_id, channel_id, kind) DO NOTHING",
            doing: QUEUEING,
        };
        let bind = |query: super::rows::Bound, delivery: &NewDelivery| {
            Ok(query
                .bind(delivery.tenant.clone())
                .bind(self.next_id(now))
                .bind(delivery.channel_id.clone())
                .bind(delivery.alert_id.clone())
                .bind(delivery.kind)
                .bind("queued")
                .bind(0_i64)
                .bind(due_at)
                .bind(now))
        };
        insert.run(self.engine(), connection, new, bind).await
    }

    /// Takes alerts back: a delivery that has never been tried is cancelled, and a channel that may
    /// have been told gets a retraction.
    ///
    /// A delivery that waits to be tried again is cancelled too, since it would come after the
    /// retraction.
    pub(super) async fn withdraw(
        &self,
        connection: &mut AnyConnection,
        alerts: &[AlertRef],
        now: UnixMillis,
    ) -> Result<Withdrawn, StoreError> {
        let failed = StoreError::database(WITHDRAWING);
        let mut by_tenant: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for alert in alerts {
            by_tenant.entry(&alert.tenant).or_default().push(&alert.id);
        }
        let mut done = Withdrawn::default();
        for (tenant, ids) in by_tenant {
            for chunk in ids.chunks(LIST) {
                let cancel = with_list(
                    "UPDATE deliveries SET state = 'cancelled', ended_at = $1 \
                     WHERE tenant_id = $2 AND kind = 'alert' AND state = 'queued' \
                     AND alert_id IN ({})",
                    3,
                );
                let cancel =
                    bind_list(cancel.bind(now).bind(tenant.to_owned()), chunk.iter().copied());
                let cancelled = cancel.execute(&mut *connection).await.map_err(&failed)?;
                done.cancelled += cancelled.rows_affected();
                let told = with_list(
                    "SELECT alert_id, channel_id FROM deliveries \
                     WHERE tenant_id = $1 AND kind = 'alert' \
                     AND (maybe_told = 1 OR state = 'sending' OR state = 'sent') \
                     AND alert_id IN ({}) ORDER BY id",
                    2,
                );
                let told = bind_list(told.bind(tenant.to_owned()), chunk.iter().copied());
                let mut new = Vec::new();
                for row in told.fetch_all(&mut *connection).await.map_err(&failed)? {
                    new.push(NewDelivery {
                        tenant: tenant.to_owned(),
                        alert_id: row.try_get("alert_id").map_err(&failed)?,
                        channel_id: row.try_get("channel_id").map_err(&failed)?,
                        kind: "retraction",
                    });
                }
                done.queued += self.queue_deliveries(connection, &new, now).await?;
            }
        }
        Ok(done)
    }
}
