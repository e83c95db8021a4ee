//! Why a command ends without success.

use std::fmt;

use lookout_bus::BusError;
use lookout_store::StoreError;
use lookout_types::ErrorKind;
use lookout_warehouse::WarehouseError;

use crate::config::Problem;

/// One sentence and whose turn it is.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or the configuration is wrong.
    Usage(String),
    /// Something else went wrong.
    Failed(String),
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// 2 for bad usage or configuration, 1 for the rest.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(message) | Self::Failed(message)) = self;
        // Drivers may answer in several lines; an error is one.
        f.write_str(&message.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Usage(problem.to_string())
    }
}

/// Errors of backends: what the configuration names wrongly is bad usage.
macro_rules! of_backend {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                match error.kind() {
                    ErrorKind::Invalid => Self::Usage(error.to_string()),
                    _ => Self::Failed(error.to_string()),
                }
            }
        }
    )*};
}
of_backend!(StoreError, WarehouseError, BusError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_the_right_code() {
        let failure = Failure::failed("two\n  lines");
        assert_eq!((failure.to_string().as_str(), failure.exit_code()), ("two lines", 1));
        let failure = Failure::from(StoreError::Invalid("x".to_owned()));
        assert_eq!((failure.to_string().as_str(), failure.exit_code()), ("x", 2));
        let failure = Failure::from(StoreError::NotFound { what: "key", id: "y".to_owned() });
        assert_eq!((failure.to_string().as_str(), failure.exit_code()), ("no key `y`", 1));
    }
}
