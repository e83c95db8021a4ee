//! Path and query parameters, with problems instead of the framework's own texts.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::{ApiError, Code};
use crate::middleware::Visitor;
use crate::state::Shared;

/// Path parameters.
pub(crate) struct UrlPath<T>(pub(crate) T);

/// Query parameters. Unknown names were refused before, by the route's documentation.
pub(crate) struct UrlQuery<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for UrlPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => {
                Err(ApiError::new(Code::InvalidPath, error.body_text()))
            }
            Err(error) => Err(ApiError::internal(error)),
        }
    }
}

impl<T: DeserializeOwned + Default + Send> FromRequestParts<Shared> for UrlQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, ApiError> {
        if parts.uri.query().is_none() {
            return Ok(Self(T::default()));
        }
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => {
                Err(ApiError::new(Code::InvalidParameter, error.body_text()))
            }
            Err(error) => Err(ApiError::internal(error)),
        }
    }
}

impl FromRequestParts<Shared> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        let visitor = parts.extensions.get::<Self>().cloned();
        visitor.ok_or_else(|| ApiError::internal("a route without a caller asks for one"))
    }
}
