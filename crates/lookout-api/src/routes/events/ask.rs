//! What queries about events and transfers are asked with, and what it means.

use std::num::NonZeroU64;

use axum::extract::{FromRequestParts, Query};
use http::HeaderMap;
use http::header::ACCEPT;
use http::request::Parts;
use jiff::Timestamp;
use lookout_types::{Address, Hash, Height, UnixSeconds, parse_quantity};
use lookout_warehouse::{FILTER_VALUES_MAX, Order, PAGE_LIMIT_MAX, PageRequest, Span};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::error::{ApiError, Code};
use crate::extract::UrlQuery;
use crate::routes::compat::wrong_address;
use crate::state::Shared;

/// Items on a page when the caller does not say.
const LIMIT_DEFAULT: u32 = 100;
/// Length of the warehouse's cursors, hex digits of 26 bytes.
const CURSOR_DIGITS: usize = 52;
/// Shortest and longest bucket of statistics, in seconds: a minute and 31 days.
const BUCKET_MIN_S: u64 = 60;
const BUCKET_MAX_S: u64 = 31 * 86_400;

/// Where and when.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SpanQuery {
    /// Lowest height, decimal or 0x-hex.
    #[param(
        value_type = String, required = false, example = "17173049",
        pattern = "^(0|[1-9][0-9]{0,18}|0x[0-9a-fA-F]{1,16})$"
    )]
    from_block: Option<String>,
    /// Highest height, included.
    #[param(
        value_type = String, required = false, example = "17173050",
        pattern = "^(0|[1-9][0-9]{0,18}|0x[0-9a-fA-F]{1,16})$"
    )]
    to_block: Option<String>,
    /// Earliest block time (RFC 3339), included.
    #[param(value_type = String, required = false, format = DateTime)]
    from_time: Option<String>,
    /// Latest block time (RFC 3339), not included, so that spans fit together without overlap.
    #[param(value_type = String, required = false, format = DateTime)]
    to_time: Option<String>,
}

/// Which part of the list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageAsk {
    /// Which end of the chain comes first. A cursor goes on only in its own order.
    #[param(value_type = OrderName, required = false, inline)]
    order: Option<OrderName>,
    /// Most items to return. Not for exports, which are whole.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// The `next` of the page before, with the same query; leave it out for the first page.
    #[param(value_type = String, required = false, pattern = "^[0-9a-f]{52}$")]
    cursor: Option<String>,
    /// The form of the answer; without it, the `Accept` header decides. `csv` and `ndjson` give
    /// everything that is asked for, as a stream.
    #[param(value_type = FormatName, required = false, inline)]
    format: Option<FormatName>,
}

/// Which part of the list, where there is no export.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PlainPageAsk {
    /// Which end of the chain comes first. A cursor goes on only in its own order.
    #[param(value_type = OrderName, required = false, inline)]
    order: Option<OrderName>,
    /// Most items to return.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// The `next` of the page before, with the same query; leave it out for the first page.
    #[param(value_type = String, required = false, pattern = "^[0-9a-f]{52}$")]
    cursor: Option<String>,
}

/// Which end of the chain comes first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(default = "desc")]
pub(crate) enum OrderName {
    /// From the first block upwards.
    Asc,
    /// From the head downwards.
    #[default]
    Desc,
}

/// The form of an answer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(default = "json")]
pub(crate) enum FormatName {
    /// A page.
    #[default]
    Json,
    /// Everything, as RFC 4180 lines.
    Csv,
    /// Everything, a JSON object a line.
    Ndjson,
}

/// How an answer is to be given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Page(PageRequest),
    Export(FormatName, Order),
}

impl From<OrderName> for Order {
    fn from(name: OrderName) -> Self {
        match name {
            OrderName::Asc => Self::OldestFirst,
            OrderName::Desc => Self::NewestFirst,
        }
    }
}

impl SpanQuery {
    pub(crate) fn span(&self) -> Result<Span, ApiError> {
        Ok(Span {
            from_height: self.from_block.as_deref().map(height).transpose()?,
            to_height: self.to_block.as_deref().map(height).transpose()?,
            from_time: self.from_time.as_deref().map(|t| seconds("fromTime", t)).transpose()?,
            to_time: self.to_time.as_deref().map(|t| seconds("toTime", t)).transpose()?,
        })
    }
}

impl PageAsk {
    fn wanted(self, headers: &HeaderMap) -> Result<Wanted, ApiError> {
        let order = self.order.unwrap_or_default().into();
        match self.format.unwrap_or_else(|| accepted(headers)) {
            FormatName::Json => page(order, self.limit, self.cursor).map(Wanted::Page),
            format if self.limit.is_none() && self.cursor.is_none() => {
                Ok(Wanted::Export(format, order))
            }
            _ => Err(invalid("an export has no pages; leave `limit` and `cursor` out")),
        }
    }
}

impl FromRequestParts<Shared> for Wanted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, ApiError> {
        let UrlQuery(ask) = UrlQuery::<PageAsk>::from_request_parts(parts, state).await?;
        ask.wanted(&parts.headers)
    }
}

impl PlainPageAsk {
    pub(crate) fn page(self) -> Result<PageRequest, ApiError> {
        page(self.order.unwrap_or_default().into(), self.limit, self.cursor)
    }
}

fn page(order: Order, limit: Option<u32>, cursor: Option<String>) -> Result<PageRequest, ApiError> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=PAGE_LIMIT_MAX).contains(&limit) {
        return Err(invalid(format!("`limit` is from 1 to {PAGE_LIMIT_MAX}, not {limit}")));
    }
    let ours = |text: &String| {
        text.len() == CURSOR_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    if cursor.as_ref().is_some_and(|text| !ours(text)) {
        let detail = "`cursor` is none of ours; pass the `next` of the page before unchanged";
        return Err(invalid(detail));
    }
    Ok(PageRequest { limit, order, cursor })
}

/// The first form in `Accept` that there is; weights are not weighed.
fn accepted(headers: &HeaderMap) -> FormatName {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let kinds = lines.flat_map(|line| line.split(','));
    let known = |kind: &str| match kind.split(';').next().unwrap_or(kind).trim() {
        "text/csv" => Some(FormatName::Csv),
        "application/x-ndjson" => Some(FormatName::Ndjson),
        "application/json" | "application/*" | "*/*" => Some(FormatName::Json),
        _ => None,
    };
    kinds.into_iter().find_map(known).unwrap_or_default()
}

pub(crate) fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(Code::InvalidParameter, detail)
}

fn height(text: &str) -> Result<Height, ApiError> {
    parse_quantity(text).map_err(|error| ApiError::new(Code::InvalidBlock, error.to_string()))
}

/// A time as whole seconds. A block's time is whole, so what lies between two is the later one.
fn seconds(name: &str, text: &str) -> Result<UnixSeconds, ApiError> {
    let shown = || text.chars().take(80).collect::<String>();
    let time: Timestamp = text.parse().map_err(|_| {
        invalid(format!(
            "`{name}` is a time such as 2026-01-01T00:00:00Z (RFC 3339), not `{}`",
            shown()
        ))
    })?;
    let up = i64::from(time.subsec_nanosecond() > 0);
    let seconds = u64::try_from(time.as_second().saturating_add(up));
    seconds.map_err(|_| invalid(format!("`{name}` lies before 1970: `{}`", shown())))
}

/// The values of a comma-separated list.
fn list<T>(
    name: &str,
    text: Option<&str>,
    one: impl Fn(&str) -> Result<T, ApiError>,
) -> Result<Vec<T>, ApiError> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let values = text.split(',').count();
    if values > FILTER_VALUES_MAX {
        let detail = format!("`{name}` takes at most {FILTER_VALUES_MAX} values, not {values}");
        return Err(invalid(detail));
    }
    text.split(',').map(one).collect()
}

pub(crate) fn addresses(name: &str, text: Option<&str>) -> Result<Vec<Address>, ApiError> {
    list(name, text, address)
}

pub(crate) fn address(text: &str) -> Result<Address, ApiError> {
    Address::parse_lenient(text).map_err(|error| wrong_address(text, &error))
}

pub(crate) fn hashes(name: &str, text: Option<&str>) -> Result<Vec<Hash>, ApiError> {
    list(name, text, |text| {
        text.parse().map_err(|error| {
            let shown: String = text.chars().take(80).collect();
            ApiError::new(
                Code::InvalidHash,
                format!("`{shown}` in `{name}` is not a topic: {error}"),
            )
        })
    })
}

pub(crate) fn words(name: &str, text: Option<&str>) -> Result<Vec<String>, ApiError> {
    list(name, text, |word| Ok(word.to_owned()))
}

pub(crate) fn assets<T>(
    text: Option<&str>,
    one: impl Fn(&str) -> Result<T, ApiError>,
) -> Result<Vec<T>, ApiError> {
    list("asset", text, one)
}

/// `90m` as seconds.
pub(crate) fn bucket(text: &str) -> Result<NonZeroU64, ApiError> {
    let wrong = || {
        let shown: String = text.chars().take(20).collect();
        invalid(format!("`bucket` is from 60s to 31d, such as 5m, 1h, 1d or 1w, not `{shown}`"))
    };
    let unit_s = match text.bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => 86_400,
        Some(b'w') => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let digits = text.strip_suffix(|_: char| true).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let seconds = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit_s));
    let seconds = seconds.filter(|s| (BUCKET_MIN_S..=BUCKET_MAX_S).contains(s));
    seconds.and_then(NonZeroU64::new).ok_or_else(wrong)
}

/// Every `where` of a query, which can come more than once.
pub(crate) struct Wheres(pub(crate) Vec<String>);

impl FromRequestParts<Shared> for Wheres {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = pairs.map_err(|error| invalid(error.body_text()))?;
        Ok(Self(pairs.into_iter().filter(|(name, _)| name == "where").map(|(_, w)| w).collect()))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn spans_are_read_and_wrong_ones_named() {
        let query = SpanQuery {
            from_block: Some("0x10".into()),
            to_block: Some("20".into()),
            from_time: Some("1970-01-01T00:00:10.5Z".into()),
            to_time: Some("1970-01-01T01:00:20+01:00".into()),
        };
        let span = Span {
            from_height: Some(16),
            to_height: Some(20),
            from_time: Some(11),
            to_time: Some(20),
        };
        assert_eq!(query.span().unwrap(), span);
        for (name, text) in [("t", "yesterday"), ("t", "1969-12-31T23:59:58Z"), ("t", "10")] {
            assert!(seconds(name, text).is_err(), "{text}");
        }
        assert_eq!(seconds("t", "1969-12-31T23:59:59.5Z").unwrap(), 0);
    }

    #[test]
    fn the_first_known_form_is_taken() {
        let of = |accept: &'static str| {
            accepted(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert_eq!(of("text/csv"), FormatName::Csv);
        assert_eq!(of("text/html, application/x-ndjson;q=0.9, text/csv"), FormatName::Ndjson);
        assert_eq!(of("application/json, text/csv"), FormatName::Json);
        assert_eq!(of("text/html"), FormatName::Json);
        assert_eq!(accepted(&HeaderMap::new()), FormatName::Json);
    }

    #[test]
    fn buckets_are_from_a_minute_to_a_month() {
        for (text, seconds) in
            [("60s", 60), ("1m", 60), ("1h", 3_600), ("31d", 2_678_400), ("4w", 2_419_200)]
        {
            assert_eq!(bucket(text).unwrap().get(), seconds);
        }
        for wrong in [
            "",
            "s",
            "1",
            "59s",
            "0m",
            "32d",
            "5w",
            "1y",
            "-1h",
            "+1h",
            "1.5h",
            "é",
            "99999999999999999999d",
            "18446744073709551615w",
        ] {
            assert!(bucket(wrong).is_err(), "{wrong}");
        }
    }
}
