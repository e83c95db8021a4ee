//! The task `purge`: removes for good what was deleted long ago, and history that has grown old.

use async_trait::async_trait;
use jiff::SpanRelativeTo;
use lookout_store::{Actor, PurgeAges, Purged, Store};
use serde_json::{Map, Value, json};

use crate::task::{Task, TaskContext, TaskError};

const DAY_MS: i64 = 86_400_000;
/// Longest age that can be set: ten years, with room in every sum.
const AGE_MAX_MS: i64 = 3_660 * DAY_MS;
/// Default age at which deleted things go, and runs.
const DEFAULT_MS: i64 = 30 * DAY_MS;

/// The settings: name, shortest age, what for. A run must stay longer than a tick can be triggered
/// after its time, else that tick could run twice; alerts longer than chains reorganise.
const SETTINGS: [(&str, i64); 4] = [
    ("olderThan", 0),
    ("runsOlderThan", 8 * DAY_MS),
    ("deliveriesOlderThan", DAY_MS),
    ("alertsOlderThan", 7 * DAY_MS),
];

/// Removes what is old of the job's tenant, and every tenant's old idempotency keys.
///
/// Settings, each a time such as `30d` or `36h`: `olderThan` (default `30d`) for deleted rules,
/// channels, silences, ABIs and jobs, `runsOlderThan` (default `30d`, at least `8d`) for runs,
/// `deliveriesOlderThan` (at least `1d`) and `alertsOlderThan` (at least `7d`) for these, which are
/// kept where the setting is missing.
#[derive(Debug, Clone)]
pub struct Purge {
    store: Store,
}

impl Purge {
    /// Of this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Task for Purge {
    fn kind(&self) -> &'static str {
        "purge"
    }

    fn check(&self, settings: &Map<String, Value>) -> Result<(), String> {
        ages(settings).map(|_| ())
    }

    async fn run(&self, context: &TaskContext) -> Result<Value, TaskError> {
        let ages = ages(&context.settings).map_err(TaskError::Fail)?;
        let actor = Actor::Job(context.job.clone());
        let purged = self
            .store
            .purge(&context.tenant, &ages, &actor, |so_far| {
                context.report(counts(so_far));
                !context.stop.is_cancelled()
            })
            .await
            .map_err(|error| TaskError::Retry(error.to_string()))?;
        if context.stop.is_cancelled() {
            return Err(TaskError::Retry("told to stop before the end".to_owned()));
        }
        Ok(counts(&purged))
    }
}

fn counts(purged: &Purged) -> Value {
    let rows = purged.counts().iter().filter(|(_, rows)| *rows > 0);
    let tables: Map<_, _> = rows.map(|(table, rows)| ((*table).to_owned(), json!(rows))).collect();
    json!({ "removed": purged.total(), "tables": tables })
}

fn ages(settings: &Map<String, Value>) -> Result<PurgeAges, String> {
    if let Some(unknown) = settings.keys().find(|name| !SETTINGS.iter().any(|(s, _)| s == name)) {
        let known = SETTINGS.map(|(name, _)| name).join("`, `");
        let shown: String = unknown.escape_debug().take(80).collect();
        return Err(format!("no setting `{shown}`; there are: `{known}`"));
    }
    let [deleted, runs, deliveries, alerts] =
        SETTINGS.map(|(name, least_ms)| settings.get(name).map(|value| age(name, value, least_ms)));
    Ok(PurgeAges {
        deleted_ms: deleted.transpose()?.unwrap_or(DEFAULT_MS),
        runs_ms: runs.transpose()?.unwrap_or(DEFAULT_MS),
        deliveries_ms: deliveries.transpose()?,
        alerts_ms: alerts.transpose()?,
    })
}

/// A time such as `30d`, in milliseconds.
fn age(name: &str, value: &Value, least_ms: i64) -> Result<i64, String> {
    let wrong = || format!("`{name}` is a time such as \"30d\" or \"36h\"");
    let text = value.as_str().filter(|text| text.len() <= 40).ok_or_else(wrong)?;
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    // Months and years have no length of their own.
    if span.get_months() != 0 || span.get_years() != 0 {
        return Err(wrong());
    }
    let days = SpanRelativeTo::days_are_24_hours();
    let exact = span.to_duration(days).map_err(|_| wrong())?;
    let age_ms = i64::try_from(exact.as_millis()).map_err(|_| wrong())?;
    if !(least_ms..=AGE_MAX_MS).contains(&age_ms) {
        let least_days = least_ms / DAY_MS;
        return Err(format!(
            "`{name}` is from {least_days}d to {}d, not {text}",
            AGE_MAX_MS / DAY_MS
        ));
    }
    Ok(age_ms)
}
