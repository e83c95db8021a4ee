//! What can be wrong with an ABI, and with data that should follow it.

use lookout_types::ErrorKind;

/// Why an ABI, or a question to it, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AbiError {
    /// The text is over the limit.
    #[error("the ABI has {found} bytes, the limit is {limit}; upload only the entries you need")]
    TooLarge {
        /// Its size.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many entries.
    #[error("the ABI has {found} entries, the limit is {limit}; upload only the entries you need")]
    TooMany {
        /// Its number of entries.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Not JSON, or JSON of another shape.
    #[error("the ABI is not a JSON array of entries, nor an object with an `abi` member: {reason}")]
    NotAnAbi {
        /// What the parser found.
        reason: String,
    },
    /// One entry is wrong.
    #[error("entry {index} of the ABI ({entry}): {reason}")]
    Entry {
        /// Position in the array, from 0.
        index: usize,
        /// Kind and name, as far as they can be read.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No such event or function.
    #[error("the ABI has no {what} `{name}`{}", nearest_clause(.nearest))]
    Unknown {
        /// `event` or `function`.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// The most similar names, best first.
        nearest: Vec<String>,
    },
    /// A name with several signatures.
    #[error(
        "the ABI has {} {what}s named `{name}`; give the full signature, one of {}",
        .signatures.len(), quoted(.signatures)
    )]
    Ambiguous {
        /// `event` or `function`.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// The signatures.
        signatures: Vec<String>,
    },
}

/// Why a log or call data could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The log has no topics, and no anonymous event of the ABI fits it.
    #[error("the log has no topics, and no anonymous event of the ABI fits it")]
    NoTopics,
    /// No event has this signature hash.
    #[error("no event of the ABI has the topic {0}")]
    UnknownEvent(lookout_types::Hash),
    /// No function has this selector.
    #[error("no function of the ABI has the selector 0x{}", const_hex::encode(.0))]
    UnknownFunction([u8; 4]),
    /// Call data shorter than a selector.
    #[error("the call data has {0} bytes; a selector alone has 4")]
    NoSelector(usize),
    /// Another number of topics than the event's indexed arguments need.
    #[error("`{signature}` has {expected} topics, the log has {found}")]
    TopicCount {
        /// The event.
        signature: String,
        /// Topics that it needs, the signature hash included.
        expected: usize,
        /// Topics that there are.
        found: usize,
    },
    /// The log is another event.
    #[error("the log is not a `{signature}`: its first topic differs")]
    OtherEvent {
        /// The event that it was held against.
        signature: String,
    },
    /// The data ends early.
    #[error("argument `{argument}` reaches beyond the {size_bytes} bytes of data")]
    Short {
        /// The argument being read.
        argument: String,
        /// Length of the data.
        size_bytes: usize,
    },
    /// A word holds no value of its type.
    #[error("argument `{argument}` holds no {expected}: bits that the type does not use are set")]
    Word {
        /// The argument being read.
        argument: String,
        /// Its type.
        expected: String,
    },
    /// Offsets that reuse bytes, so that a small input claims a large value.
    #[error("argument `{argument}` claims more values than {size_bytes} bytes of data can hold")]
    Overlapping {
        /// The argument being read.
        argument: String,
        /// Length of the data.
        size_bytes: usize,
    },
}

impl AbiError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } | Self::TooMany { .. } => ErrorKind::TooLarge,
            Self::NotAnAbi { .. } | Self::Entry { .. } | Self::Ambiguous { .. } => {
                ErrorKind::Invalid
            }
            Self::Unknown { .. } => ErrorKind::NotFound,
        }
    }
}

impl DecodeError {
    /// What a caller can do about it: the data stays as it is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn nearest_clause(nearest: &[String]) -> String {
    if nearest.is_empty() {
        String::new()
    } else {
        format!("; the nearest are {}", quoted(nearest))
    }
}
