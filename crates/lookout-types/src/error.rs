//! The closed set of error kinds that every library error maps to.

/// What a caller can do about an error. Only the API turns a kind into a status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong; sending it again changes nothing.
    Invalid,
    /// No or unknown credentials.
    Unauthenticated,
    /// Known caller, missing scope.
    Forbidden,
    /// The thing does not exist, or belongs to someone else.
    NotFound,
    /// The thing exists already, or changed meanwhile.
    Conflict,
    /// A body, batch or answer is over its limit.
    TooLarge,
    /// A rate limit; the answer says when to come back.
    TooMany,
    /// A thing that Lookout depends on failed.
    Upstream,
    /// A part of Lookout is not ready; trying again later helps.
    Unavailable,
    /// Time ran out.
    Timeout,
    /// A defect of Lookout; details go to the log only.
    Internal,
}
