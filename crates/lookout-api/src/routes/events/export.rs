//! Everything that a query finds, as one streamed answer in bounded memory.

use std::pin::pin;
use std::time::Duration;

use axum::response::Response;
use futures_util::{Stream, StreamExt};
use http::HeaderValue;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use lookout_abi::Event as AbiEvent;
use lookout_types::ChainId;
use lookout_warehouse::{Event, TransferEvent, WarehouseError};

use super::ask::FormatName;
use super::csv::Lines;
use super::decoding::{Decoded, Decoding};
use super::item::{event_item, transfer_item};
use crate::error::ApiError;
use crate::piped::{self, Gone, Pipe};
use crate::slots::Slot;

/// How long a client may read nothing before its export ends.
const STALL: Duration = Duration::from_secs(60);
/// Size of the pieces that are written, about: a few hundred lines.
const PIECE_BYTES: usize = 64 << 10;

/// Turns records into lines.
pub(crate) trait Rows: Send + 'static {
    /// A record of the warehouse.
    type Record: Send;
    /// What is exported, for the file's name.
    const NAME: &'static str;

    /// The first line of a CSV file.
    fn header(&self, lines: &mut Lines);

    /// The line of a record; none when it is not asked for.
    fn csv(&self, record: &Self::Record, lines: &mut Lines) -> Result<(), ApiError>;

    /// The JSON object of a record; none when it is not asked for.
    fn json(&self, record: &Self::Record) -> Result<Option<String>, ApiError>;
}

/// Events, decoded or raw.
pub(crate) struct EventRows(pub(crate) Option<Decoding>);

/// Transfers.
pub(crate) struct TransferRows;

/// An answer that streams everything of `found`. The slot is free again when it ends.
pub(crate) fn answer<R: Rows + Sync>(
    rows: R,
    found: impl Stream<Item = Result<Vec<R::Record>, WarehouseError>> + Send + 'static,
    format: FormatName,
    chain: ChainId,
    slot: Slot,
) -> Response {
    let body = piped::body(STALL, |pipe| async move {
        let _slot = slot;
        match write(&rows, found, format, &pipe).await {
            Ok(()) => pipe.end().await,
            Err(Ended::Left) => tracing::debug!(%chain, "the client of an export left"),
            // The answer has begun, so all that is left is to cut it off.
            Err(Ended::Failed(error)) => {
                let cause = error.internal.as_deref().unwrap_or(&error.detail);
                tracing::warn!(%chain, what = R::NAME, cause, "an export was cut off");
            }
        }
    });
    let (kind, ending) = match format {
        FormatName::Csv => ("text/csv; charset=utf-8; header=present", "csv"),
        _ => ("application/x-ndjson", "ndjson"),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    let file = format!("attachment; filename=\"{}-{chain}.{ending}\"", R::NAME);
    if let Ok(file) = HeaderValue::try_from(file) {
        headers.insert(CONTENT_DISPOSITION, file);
    }
    response
}

enum Ended {
    Left,
    Failed(Box<ApiError>),
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Self::Left
    }
}

impl From<ApiError> for Ended {
    fn from(error: ApiError) -> Self {
        Self::Failed(Box::new(error))
    }
}

async fn write<R: Rows>(
    rows: &R,
    found: impl Stream<Item = Result<Vec<R::Record>, WarehouseError>>,
    format: FormatName,
    pipe: &Pipe,
) -> Result<(), Ended> {
    let mut found = pin!(found);
    let mut lines = Lines::new();
    if format == FormatName::Csv {
        rows.header(&mut lines);
    }
    let mut piece = lines.take();
    while let Some(records) = found.next().await {
        for record in records.map_err(ApiError::from)? {
            if format == FormatName::Csv {
                rows.csv(&record, &mut lines)?;
                piece.push_str(&lines.take());
            } else if let Some(json) = rows.json(&record)? {
                piece.push_str(&json);
                piece.push('\n');
            }
            if piece.len() >= PIECE_BYTES {
                pipe.send(std::mem::take(&mut piece)).await?;
            }
        }
    }
    if !piece.is_empty() {
        pipe.send(piece).await?;
    }
    Ok(())
}

/// Cells of every event, before what an ABI says.
const EVENT_COLUMNS: [&str; 12] = [
    "blockNumber",
    "blockHash",
    "timestamp",
    "transactionHash",
    "transactionIndex",
    "logIndex",
    "address",
    "topic0",
    "topic1",
    "topic2",
    "topic3",
    "data",
];

impl EventRows {
    fn decoded(
        &self,
        decoded: Option<Result<Decoded, lookout_abi::DecodeError>>,
        lines: &mut Lines,
    ) {
        let Some(decoding) = &self.0 else { return };
        let (decoded, error) = match decoded {
            Some(Ok(decoded)) => (Some(decoded), String::new()),
            Some(Err(error)) => (None, error.to_string()),
            None => (None, String::new()),
        };
        let signature = decoded.as_ref().map_or("", |(event, _)| event.signature.as_str());
        lines.cell(signature);
        match decoding.event() {
            // One event: a column for each argument.
            Some(AbiEvent { params, .. }) => {
                for (at, param) in params.iter().enumerate() {
                    match decoded.as_ref().and_then(|(_, values)| values.get(at)) {
                        Some(value) => lines.value(value, &value.to_json(&param.ty)),
                        None => lines.cell(""),
                    }
                }
            }
            None => {
                let args = decoded.map(|(event, values)| event.to_json(&values).to_string());
                lines.cell(args.as_deref().unwrap_or_default());
            }
        }
        lines.cell(&error);
    }
}

impl Rows for EventRows {
    type Record = Event;
    const NAME: &'static str = "events";

    fn header(&self, lines: &mut Lines) {
        EVENT_COLUMNS.iter().for_each(|name| lines.cell(name));
        if let Some(decoding) = &self.0 {
            lines.cell("event");
            match decoding.event() {
                Some(event) => {
                    event.params.iter().for_each(|p| lines.cell(&format!("args.{}", p.name)));
                }
                None => lines.cell("args"),
            }
            lines.cell("decodeError");
        }
        lines.end();
    }

    fn csv(&self, record: &Event, lines: &mut Lines) -> Result<(), ApiError> {
        let decoded = match &self.0 {
            Some(decoding) => match decoding.read(&record.log) {
                None => return Ok(()),
                decoded => decoded,
            },
            None => None,
        };
        let Some(item) = event_item(record, None)? else { return Ok(()) };
        lines.cell(&item.block_number.to_string());
        lines.cell(&item.block_hash);
        lines.cell(&item.timestamp);
        lines.cell(&item.transaction_hash);
        lines.cell(&item.transaction_index.to_string());
        lines.cell(&item.log_index.to_string());
        lines.cell(&item.address);
        for at in 0..4 {
            lines.cell(item.topics.get(at).map_or("", String::as_str));
        }
        lines.cell(&item.data);
        self.decoded(decoded, lines);
        lines.end();
        Ok(())
    }

    fn json(&self, record: &Event) -> Result<Option<String>, ApiError> {
        let item = event_item(record, self.0.as_ref())?;
        item.map(|item| serde_json::to_string(&item).map_err(ApiError::internal)).transpose()
    }
}

impl Rows for TransferRows {
    type Record = TransferEvent;
    const NAME: &'static str = "transfers";

    fn header(&self, lines: &mut Lines) {
        for name in [
            "blockNumber",
            "blockHash",
            "timestamp",
            "transactionHash",
            "transactionIndex",
            "logIndex",
            "batchIndex",
            "asset",
            "contract",
            "tokenId",
            "from",
            "to",
            "amount",
        ] {
            lines.cell(name);
        }
        lines.end();
    }

    fn csv(&self, record: &TransferEvent, lines: &mut Lines) -> Result<(), ApiError> {
        let item = transfer_item(record)?;
        lines.cell(&item.block_number.to_string());
        lines.cell(&item.block_hash);
        lines.cell(&item.timestamp);
        lines.cell(&item.transaction_hash);
        lines.cell(&item.transaction_index.to_string());
        lines.cell(&item.log_index.map(|index| index.to_string()).unwrap_or_default());
        lines.cell(&item.batch_index.to_string());
        lines.cell(item.asset.kind.as_str());
        lines.cell(item.asset.contract.as_deref().unwrap_or_default());
        lines.cell(item.asset.token_id.as_deref().unwrap_or_default());
        lines.cell(&item.from);
        lines.cell(&item.to);
        lines.cell(&item.amount);
        lines.end();
        Ok(())
    }

    fn json(&self, record: &TransferEvent) -> Result<Option<String>, ApiError> {
        let item = transfer_item(record)?;
        serde_json::to_string(&item).map(Some).map_err(ApiError::internal)
    }
}
