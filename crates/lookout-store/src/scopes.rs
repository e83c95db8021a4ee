//! What a key may do.

use std::fmt;
use std::str::FromStr;

/// The permissions: each with its name and what it is for.
macro_rules! scopes {
    ($($variant:ident $name:literal $doc:literal;)*) => {
        /// One permission.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Scope { $(#[doc = $doc] $variant,)* }

        impl Scope {
            /// Every scope, in the order they are written.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name in configuration, keys and answers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

scopes! {
    ChainsRead "chains:read" "Read chains: blocks, balances, JSON-RPC reads.";
    ChainsSend "chains:send" "Send signed transactions.";
    KeysRead "keys:read" "List keys.";
    KeysWrite "keys:write" "Create and revoke keys.";
    AuditRead "audit:read" "Read the audit log.";
    EventsRead "events:read" "Read events, transfers, their statistics and the stream of them.";
    RulesRead "rules:read" "Read rules, labels and ABIs; try rules out.";
    RulesWrite "rules:write" "Change rules, labels and ABIs.";
    AlertsRead "alerts:read" "Read alerts and their deliveries.";
    ChannelsRead "channels:read" "Read channels and silences, without secrets.";
    ChannelsWrite "channels:write" "Change channels and silences, test them, replay deliveries.";
    JobsRead "jobs:read" "Read jobs and their runs.";
    JobsWrite "jobs:write" "Change jobs and trigger runs.";
}

impl Scope {
    const fn bit(self) -> u32 {
        1 << (self as u32)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scopes(u32);

/// A name that is no scope, or none at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopesError {
    /// The name is not known.
    #[error("unknown scope `{name}`; known scopes: {}", known())]
    Unknown {
        /// The name given.
        name: String,
    },
    /// The list is empty.
    #[error("no scope given; known scopes: {}", known())]
    Empty,
}

fn known() -> String {
    let names: Vec<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    format!("{}, * (everything)", names.join(", "))
}

impl Scopes {
    /// No permission.
    pub const NONE: Self = Self(0);
    /// Every permission, also those that later versions add; written `*`.
    pub const ALL: Self = Self(u32::MAX);

    /// Reads a comma-separated list of at least one scope.
    ///
    /// # Errors
    /// [`ScopesError`] on an unknown name (listing the known ones) or an empty list.
    pub fn parse(text: &str) -> Result<Self, ScopesError> {
        let scopes = Self::of_names(text.split(',').map(str::trim).filter(|n| !n.is_empty()))?;
        if scopes == Self::NONE { Err(ScopesError::Empty) } else { Ok(scopes) }
    }

    /// The set of the named scopes; no names give the empty set.
    ///
    /// # Errors
    /// [`ScopesError::Unknown`] on the first unknown name.
    pub fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, ScopesError> {
        names.into_iter().try_fold(Self::NONE, |set, name| {
            if name == "*" {
                return Ok(Self::ALL);
            }
            let scope = Scope::ALL.iter().copied().find(|scope| scope.as_str() == name);
            let scope = scope.ok_or_else(|| ScopesError::Unknown { name: name.to_owned() })?;
            Ok(set.with(scope))
        })
    }

    /// This set and one more.
    #[must_use]
    pub const fn with(self, scope: Scope) -> Self {
        Self(self.0 | scope.bit())
    }

    /// Everything in this set or in the other.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the scope is in the set.
    pub const fn allows(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether every scope of `other` is in this set: a key may hand out no more than it has.
    pub const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names, in their fixed order; `*` alone for everything.
    pub fn names(self) -> Vec<&'static str> {
        if self == Self::ALL {
            return vec!["*"];
        }
        Scope::ALL.iter().copied().filter(|s| self.allows(*s)).map(Scope::as_str).collect()
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self::NONE.with(scope)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl FromStr for Scopes {
    type Err = ScopesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subset_prints_and_parses_back() {
        for bits in 1..1_u32 << Scope::ALL.len() {
            let set = Scopes(bits);
            assert_eq!(Scopes::parse(&set.to_string()), Ok(set));
            for &scope in Scope::ALL {
                assert_eq!(set.allows(scope), set.names().contains(&scope.as_str()));
            }
        }
    }

    #[test]
    fn a_star_is_everything_and_stays_a_star() {
        let all = Scopes::parse("chains:read, *").unwrap();
        assert_eq!(all, Scopes::ALL);
        assert_eq!(all.to_string(), "*");
        assert!(Scope::ALL.iter().copied().all(|scope| all.allows(scope)));
        // All known scopes by name are not `*`: they do not grow with later versions.
        let named: Scopes = Scope::ALL.iter().copied().collect();
        assert_ne!(named, all);
        assert!(all.covers(named) && !named.covers(all));
    }

    #[test]
    fn wrong_lists_say_what_is_known() {
        let error = Scopes::parse("chains:read,chains:rad").unwrap_err().to_string();
        assert!(error.starts_with("unknown scope `chains:rad`; known scopes: chains:read, "));
        for empty in ["", " ", ",", " , "] {
            assert_eq!(Scopes::parse(empty), Err(ScopesError::Empty), "{empty:?}");
        }
        for unknown in ["Chains:read", "chains", "chains:*", "chains:read;keys:read"] {
            assert!(Scopes::parse(unknown).is_err(), "{unknown}");
        }
    }
}
