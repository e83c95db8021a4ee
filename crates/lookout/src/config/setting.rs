//! How each type of value is read and shown.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use lookout_bus::BusUrl;
use lookout_store::{Scopes, StoreUrl};
use lookout_types::{ChainId, Secret};
use lookout_warehouse::WarehouseUrl;

use super::section::{Kind, Setting};
use super::tree::{Entry, Problem, Value};

/// Largest file that a `*_file` key reads, in bytes: a URL with a token, not a disk image.
const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;

/// The text of an entry.
pub(crate) fn text<'a>(entry: &'a Entry, expected: &str) -> Result<&'a str, Problem> {
    match &entry.value {
        Value::Text(text) | Value::Untyped(text) => Ok(text),
        _ => Err(entry.wrong_type(expected)),
    }
}

/// An entry's text, parsed; the parser's error must not quote secrets.
pub(crate) fn parsed<T: FromStr<Err: Display>>(
    entry: &Entry,
    expected: &str,
) -> Result<T, Problem> {
    text(entry, expected)?.trim().parse().map_err(|e: T::Err| entry.problem(e.to_string()))
}

/// The texts of a list, each with its entry; from the environment, comma-separated.
pub(crate) fn texts<'a>(
    entry: &'a Entry,
    item: &str,
) -> Result<Vec<(&'a Entry, &'a str)>, Problem> {
    match &entry.value {
        Value::List(items) => items.iter().map(|i| Ok((i, text(i, item)?.trim()))).collect(),
        Value::Untyped(line) => {
            let items = line.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(items.map(|item| (entry, item)).collect())
        }
        _ => Err(entry.wrong_type("a list")),
    }
}

/// A text as TOML.
pub(crate) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

pub(crate) fn quoted_list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<_> = items.into_iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}

fn integer(entry: &Entry) -> Result<i128, Problem> {
    match &entry.value {
        Value::Integer(number) => Ok((*number).into()),
        // Underscores as TOML allows them.
        Value::Untyped(text) => text
            .trim()
            .replace('_', "")
            .parse()
            .map_err(|_| entry.problem(format!("`{text}` is not an integer"))),
        _ => Err(entry.wrong_type("an integer")),
    }
}

macro_rules! integer_setting {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            const KIND: Kind = Kind::Value("integer");

            fn read(entry: &Entry) -> Result<Self, Problem> {
                let number = integer(entry)?;
                Self::try_from(number).map_err(|_| {
                    entry.problem(format!("{number} is not between 0 and {}", <$type>::MAX))
                })
            }

            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}
integer_setting!(u32, u64, usize);

impl Setting for String {
    const KIND: Kind = Kind::Value("text");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        text(entry, "text").map(str::to_owned)
    }

    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl<T: Setting> Setting for Option<T> {
    const KIND: Kind = T::KIND;

    fn read(entry: &Entry) -> Result<Self, Problem> {
        T::read(entry).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }
}

/// A duration in whole milliseconds; its key ends in `_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Millis(pub(crate) Duration);

impl Setting for Millis {
    const KIND: Kind = Kind::Value("milliseconds");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        let millis = u32::read(entry)?;
        if millis == 0 {
            return Err(entry.problem("a time of 0 ms allows nothing; expected at least 1"));
        }
        Ok(Self(Duration::from_millis(millis.into())))
    }

    fn show(&self) -> Option<String> {
        Some(self.0.as_millis().to_string())
    }
}

impl Setting for SocketAddr {
    const KIND: Kind = Kind::Value("address");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        let text = text(entry, "an address such as 127.0.0.1:8000")?;
        parse_listen(text).map_err(|reason| entry.problem(reason))
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

/// Reads the address to listen on; `localhost` is the IPv4 loopback.
pub(crate) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let numeric = text.trim().replacen("localhost:", "127.0.0.1:", 1);
    let wrong = |_| format!("`{text}` is not an address and port such as 127.0.0.1:8000");
    numeric.parse().map_err(wrong)
}

impl Setting for Scopes {
    const KIND: Kind = Kind::Value("list of scopes");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        let names = texts(entry, "a scope such as `chains:read`")?;
        let mut scopes = Self::NONE;
        for (item, name) in names {
            let one = Self::of_names([name]).map_err(|e| item.problem(e.to_string()))?;
            scopes = scopes.union(one);
        }
        Ok(scopes)
    }

    fn show(&self) -> Option<String> {
        Some(quoted_list(self.names()))
    }
}

impl Setting for ChainId {
    const KIND: Kind = Kind::Value("integer");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        match u64::read(entry)? {
            0 => Err(entry.problem("no chain has the id 0")),
            id => Ok(Self(id)),
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// Backends by URL; each shows itself without credentials.
macro_rules! url_setting {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            const KIND: Kind = Kind::Value("URL");

            fn read(entry: &Entry) -> Result<Self, Problem> {
                parsed(entry, "a URL")
            }

            fn show(&self) -> Option<String> {
                Some(quoted(&self.to_string()))
            }
        }
    )*};
}
url_setting!(StoreUrl, WarehouseUrl, BusUrl);

/// A credential written into the configuration or the environment; never shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SecretText(pub(crate) Secret);

impl FromStr for SecretText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Secret::new(text)))
    }
}

impl Setting for SecretText {
    const KIND: Kind = Kind::Value("text");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        match text(entry, "text")?.trim() {
            "" => Err(entry.problem("empty")),
            secret => Ok(Self(Secret::new(secret))),
        }
    }

    fn show(&self) -> Option<String> {
        Some(quoted("***"))
    }
}

impl Setting for bool {
    const KIND: Kind = Kind::Value("true or false");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        match &entry.value {
            Value::Bool(value) => Ok(*value),
            Value::Untyped(text) if text.trim() == "true" => Ok(true),
            Value::Untyped(text) if text.trim() == "false" => Ok(false),
            _ => Err(entry.wrong_type("true or false")),
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A value kept in a file of its own, as secrets are mounted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FromFile<T> {
    path: PathBuf,
    pub(crate) value: T,
}

impl<T: FromStr<Err: Display> + PartialEq> Setting for FromFile<T> {
    const KIND: Kind = Kind::Value("path");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        let path = PathBuf::from(text(entry, "the path of a file")?);
        let problem = |reason: String| entry.problem(format!("`{}` {reason}", path.display()));
        let content = read_secret(&path).map_err(|e| problem(format!("cannot be read: {e}")))?;
        let value = content.trim();
        if value.is_empty() {
            return Err(problem("is empty".to_owned()));
        }
        let value = value.parse().map_err(|e: T::Err| problem(format!("holds {e}")))?;
        Ok(Self { path, value })
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.path.display().to_string()))
    }
}

fn read_secret(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut content = String::new();
    let file = std::fs::File::open(path)?;
    file.take(SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut content)?;
    if content.len() as u64 > SECRET_FILE_BYTES_MAX {
        let reason = format!("it is larger than {SECRET_FILE_BYTES_MAX} bytes");
        return Err(std::io::Error::other(reason));
    }
    Ok(content)
}

/// A closed set of words as an enum.
macro_rules! word_setting {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$vmeta])* $variant,)* }

        impl $crate::config::section::Setting for $name {
            const KIND: $crate::config::section::Kind =
                $crate::config::section::Kind::Value(concat!("one of", $(" `", $word, "`",)*));

            fn read(
                entry: &$crate::config::tree::Entry,
            ) -> Result<Self, $crate::config::tree::Problem> {
                match $crate::config::setting::text(entry, "text")? {
                    $($word => Ok(Self::$variant),)*
                    other => Err(entry.problem(format!(
                        "`{other}` is not {}", concat!("one of", $(" `", $word, "`",)*)
                    ))),
                }
            }

            fn show(&self) -> Option<String> {
                match self { $(Self::$variant => Some(format!("{:?}", $word)),)* }
            }
        }
    };
}
pub(crate) use word_setting;
