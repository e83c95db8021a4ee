//! The one place where errors become status codes.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use lookout_bus::BusError;
use lookout_chain::ChainError;
use lookout_rules::{Part, RuleError};
use lookout_store::StoreError;
use lookout_types::ErrorKind;
use lookout_warehouse::WarehouseError;
use serde_json::{Map, Value};

use crate::problem;

/// JSON-RPC 2.0: the text is not JSON.
pub(crate) const RPC_PARSE: i64 = -32700;
/// JSON-RPC 2.0: the JSON is no request.
pub(crate) const RPC_INVALID_REQUEST: i64 = -32600;
/// JSON-RPC 2.0: no such method.
pub(crate) const RPC_METHOD: i64 = -32601;
/// JSON-RPC 2.0: wrong parameters.
pub(crate) const RPC_PARAMS: i64 = -32602;
/// JSON-RPC 2.0: internal error; clients such as viem try again on it.
pub(crate) const RPC_INTERNAL: i64 = -32603;
/// EIP-1474: the requested thing is not there.
pub(crate) const RPC_NOT_FOUND: i64 = -32001;
/// EIP-1474: a limit is exceeded.
pub(crate) const RPC_LIMIT: i64 = -32005;
/// EIP-1193: the caller is not authorised.
pub(crate) const RPC_UNAUTHORIZED: i64 = 4100;

macro_rules! codes {
    ($($variant:ident $name:literal $status:ident $title:literal $rpc:ident;)*) => {
        /// What went wrong, as clients tell it apart. The names are part of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code { $($variant),* }

        impl Code {
            /// Every code, for the documentation.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),* }
            }

            pub(crate) fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// The JSON-RPC error code beside it on `/v1/rpc`.
            pub(crate) fn rpc(self) -> i64 {
                match self { $(Self::$variant => $rpc),* }
            }
        }
    };
}

codes! {
    InvalidBlock "invalid_block" BAD_REQUEST "Not a block" RPC_PARAMS;
    InvalidAddress "invalid_address" BAD_REQUEST "Not an address" RPC_PARAMS;
    InvalidChecksum "invalid_checksum" BAD_REQUEST "Wrong address checksum" RPC_PARAMS;
    InvalidHash "invalid_hash" BAD_REQUEST "Not a hash" RPC_PARAMS;
    InvalidParameter "invalid_parameter" BAD_REQUEST "Invalid parameter" RPC_PARAMS;
    UnknownParameter "unknown_parameter" BAD_REQUEST "Unknown query parameter" RPC_PARAMS;
    InvalidPath "invalid_path" BAD_REQUEST "Invalid path" RPC_PARAMS;
    InvalidBody "invalid_body" BAD_REQUEST "Invalid body" RPC_INVALID_REQUEST;
    MalformedJson "malformed_json" BAD_REQUEST "Malformed JSON" RPC_PARSE;
    EmptyBatch "empty_batch" BAD_REQUEST "Empty batch" RPC_INVALID_REQUEST;
    InvalidRule "invalid_rule" BAD_REQUEST "Invalid rule" RPC_PARAMS;
    InvalidRequest "invalid_request" BAD_REQUEST "Invalid request" RPC_PARAMS;
    NodeRefused "node_refused" BAD_REQUEST "The node refused the request" RPC_PARAMS;
    Unauthenticated "unauthenticated" UNAUTHORIZED "Credentials needed" RPC_UNAUTHORIZED;
    MissingScope "missing_scope" FORBIDDEN "Missing scope" RPC_UNAUTHORIZED;
    ForeignOrigin "foreign_origin" FORBIDDEN "Foreign origin" RPC_UNAUTHORIZED;
    NotFound "not_found" NOT_FOUND "Not found" RPC_NOT_FOUND;
    UnknownRoute "unknown_route" NOT_FOUND "No such route" RPC_NOT_FOUND;
    UnknownChain "unknown_chain" NOT_FOUND "Unknown chain" RPC_NOT_FOUND;
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "Method not allowed" RPC_INVALID_REQUEST;
    ChainNotFollowed "chain_not_followed" CONFLICT "Chain not followed" RPC_INVALID_REQUEST;
    CursorExpired "cursor_expired" GONE "Cursor expired" RPC_INVALID_REQUEST;
    Conflict "conflict" CONFLICT "Conflict" RPC_INVALID_REQUEST;
    IdempotencyKeyInUse "idempotency_key_in_use" CONFLICT "Idempotency key in use" RPC_INVALID_REQUEST;
    IdempotencyKeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY "Idempotency key reused" RPC_INVALID_REQUEST;
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "Body too large" RPC_LIMIT;
    BatchTooLarge "batch_too_large" PAYLOAD_TOO_LARGE "Batch too large" RPC_LIMIT;
    UrlTooLong "url_too_long" URI_TOO_LONG "URL too long" RPC_LIMIT;
    HostNotLoopback "host_not_loopback" MISDIRECTED_REQUEST "Host is not loopback" RPC_UNAUTHORIZED;
    RateLimited "rate_limited" TOO_MANY_REQUESTS "Too many requests" RPC_LIMIT;
    Internal "internal" INTERNAL_SERVER_ERROR "Internal error" RPC_INTERNAL;
    UpstreamFailed "upstream_failed" BAD_GATEWAY "Upstreams failed" RPC_INTERNAL;
    Unavailable "unavailable" SERVICE_UNAVAILABLE "Not available" RPC_INTERNAL;
    Timeout "timeout" GATEWAY_TIMEOUT "Timed out" RPC_INTERNAL;
}

impl Code {
    /// The code of an error of which only the kind is known.
    fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Invalid => Self::InvalidRequest,
            ErrorKind::Unauthenticated => Self::Unauthenticated,
            ErrorKind::Forbidden => Self::MissingScope,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::Conflict => Self::Conflict,
            ErrorKind::TooLarge => Self::BodyTooLarge,
            ErrorKind::TooMany => Self::RateLimited,
            ErrorKind::Upstream => Self::UpstreamFailed,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::Internal => Self::Internal,
        }
    }
}

/// Seconds after which a client should try an unavailable part again: about one head poll.
const RETRY_AFTER_SECONDS: u32 = 2;

/// An answer that is no success. Rendered by [`problem`], where the request id is known.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) code: Code,
    /// What the client reads. Never secret, never internal.
    pub(crate) detail: Cow<'static, str>,
    /// What only the log reads.
    pub(crate) internal: Option<String>,
    /// `Retry-After`, in seconds.
    pub(crate) retry_after: Option<u32>,
    /// `WWW-Authenticate`.
    pub(crate) challenge: Option<&'static str>,
    /// Extension members of the problem.
    pub(crate) members: Map<String, Value>,
}

impl ApiError {
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            internal: None,
            retry_after: (code == Code::Unavailable).then_some(RETRY_AFTER_SECONDS),
            challenge: None,
            members: Map::new(),
        }
    }

    /// A defect: the client learns nothing but the request id, the log everything.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        let detail = "an internal error; the server's log has it under this request id";
        Self { internal: Some(cause.to_string()), ..Self::new(Code::Internal, detail) }
    }

    /// The same error on a compatible route, whose clients know one status for every failure
    /// behind the service.
    pub(crate) fn compat(error: ChainError) -> Self {
        let mut this = Self::from(error);
        if matches!(this.code, Code::Unavailable | Code::Timeout) {
            this.code = Code::UpstreamFailed;
            this.retry_after = None;
        }
        this
    }
}

impl From<ChainError> for ApiError {
    fn from(error: ChainError) -> Self {
        let code = match &error {
            ChainError::Node(_) if error.kind() == ErrorKind::Invalid => Code::NodeRefused,
            ChainError::UnknownChain { .. } => Code::UnknownChain,
            other => Code::of(other.kind()),
        };
        if code == Code::Internal {
            Self::internal(error)
        } else {
            Self::new(code, error.to_string())
        }
    }
}

impl From<RuleError> for ApiError {
    fn from(error: RuleError) -> Self {
        let mut this = Self::new(Code::InvalidRule, error.to_string());
        if let RuleError::At { part, line, column, .. } = error {
            // The member of the document, so that editors can point at it.
            let member = match part {
                Part::Condition => "condition",
                Part::WindowSum => "window.of",
                Part::WindowCondition => "window.condition",
                Part::Template => "template",
            };
            this.members.insert("member".to_owned(), member.into());
            this.members.insert("line".to_owned(), line.into());
            this.members.insert("column".to_owned(), column.into());
        }
        this
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if let StoreError::Rule(error) = error {
            return error.into();
        }
        match Code::of(error.kind()) {
            Code::Internal => Self::internal(error),
            Code::Unavailable if matches!(error, StoreError::Full { .. }) => {
                Self::new(Code::Unavailable, error.to_string())
            }
            // Where the store is and what it runs on is not the client's business.
            Code::Unavailable => Self {
                internal: Some(error.to_string()),
                ..Self::new(Code::Unavailable, "the store cannot be reached at the moment")
            },
            code => Self::new(code, error.to_string()),
        }
    }
}

impl From<WarehouseError> for ApiError {
    fn from(error: WarehouseError) -> Self {
        match &error {
            // The answer would be too large, not the body that was sent.
            WarehouseError::TooLarge(_) => Self::new(Code::InvalidParameter, error.to_string()),
            WarehouseError::Invalid(_) | WarehouseError::Stale(_) | WarehouseError::Full => {
                Self::new(Code::of(error.kind()), error.to_string())
            }
            _ if error.kind() == ErrorKind::Unavailable => Self {
                internal: Some(error.to_string()),
                ..Self::new(Code::Unavailable, "the warehouse cannot be reached at the moment")
            },
            // A reader never meets the other conflicts.
            _ => Self::internal(error),
        }
    }
}

impl From<BusError> for ApiError {
    fn from(error: BusError) -> Self {
        match error.kind() {
            _ if matches!(error, BusError::Full) => Self::new(Code::Unavailable, error.to_string()),
            ErrorKind::Unavailable => Self {
                internal: Some(error.to_string()),
                ..Self::new(Code::Unavailable, "the bus cannot be reached at the moment")
            },
            _ => Self::internal(error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        problem::response(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_names_are_unique_and_every_kind_has_a_status() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        for (kind, status) in [
            (ErrorKind::Invalid, 400),
            (ErrorKind::Unauthenticated, 401),
            (ErrorKind::Forbidden, 403),
            (ErrorKind::NotFound, 404),
            (ErrorKind::Conflict, 409),
            (ErrorKind::TooLarge, 413),
            (ErrorKind::TooMany, 429),
            (ErrorKind::Internal, 500),
            (ErrorKind::Upstream, 502),
            (ErrorKind::Unavailable, 503),
            (ErrorKind::Timeout, 504),
        ] {
            assert_eq!(Code::of(kind).status().as_u16(), status);
        }
    }

    #[test]
    fn upstream_trouble_is_502_on_compatible_routes_only() {
        let errors = [
            ChainError::Unavailable { chain: "a".into(), reason: "none reached".into() },
            ChainError::Timeout { chain: "a".into(), millis: 5 },
            ChainError::Upstreams { chain: "a".into(), attempts: vec![] },
        ];
        for (error, plain) in errors.into_iter().zip([503, 504, 502]) {
            assert_eq!(ApiError::from(error.clone()).code.status().as_u16(), plain);
            assert_eq!(ApiError::compat(error).code.status().as_u16(), 502);
        }
        let missing = ApiError::compat(ChainError::NotFound("block 9 is above the head".into()));
        assert_eq!(missing.code.status().as_u16(), 404);
    }

    #[test]
    fn internal_causes_stay_in_the_log() {
        let error = ApiError::internal("row 7 of table keys");
        assert!(!error.detail.contains("row 7"));
        assert_eq!(error.internal.as_deref(), Some("row 7 of table keys"));
    }
}
