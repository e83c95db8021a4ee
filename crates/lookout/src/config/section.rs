//! Sections of the configuration: a struct whose fields are the keys and whose field comments are
//! their documentation.

use super::suggest::unknown_key;
use super::tree::{Entry, Problem};

/// What a key takes, for the documentation and for suggestions.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A value; the words say of which form.
    Value(&'static str),
    /// A table of further keys.
    Section(&'static [Key]),
    /// Tables under names that the user chooses.
    Named(&'static [Key]),
    /// A list of tables.
    List(&'static [Key]),
}

/// One key of a section.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The lines of the field's comment.
    pub(crate) docs: &'static [&'static str],
}

/// A value that a key can have.
pub(crate) trait Setting: Sized + PartialEq {
    const KIND: Kind;

    /// Reads it; the problem says what is expected.
    fn read(entry: &Entry) -> Result<Self, Problem>;

    /// As TOML, without secrets; `None` when it is not set or is a section.
    fn show(&self) -> Option<String>;

    /// Adds the paths of the keys that differ from `old`.
    fn changes(&self, old: &Self, path: &str, changed: &mut Vec<String>) {
        if self != old {
            changed.push(path.to_owned());
        }
    }
}

/// A table of keys; made by [`section!`].
pub(crate) trait Section: Default + PartialEq + Check {
    const KEYS: &'static [Key];

    /// Reads one key; tells whether it is known.
    fn set(&mut self, name: &str, entry: &Entry) -> Result<bool, Problem>;

    /// Name and text of each key that has a value.
    fn shown(&self) -> Vec<(&'static str, String)>;

    /// See [`Setting::changes`].
    fn changed_keys(&self, old: &Self, path: &str, changed: &mut Vec<String>);
}

/// What must hold between the keys of a section.
pub(crate) trait Check {
    /// Looks at the whole section; `entry` gives the places for problems.
    fn check(&self, _entry: &Entry) -> Result<(), Problem> {
        Ok(())
    }
}

impl<T: Section> Setting for T {
    const KIND: Kind = Kind::Section(T::KEYS);

    fn read(entry: &Entry) -> Result<Self, Problem> {
        let mut section = T::default();
        for (name, child) in entry.table()? {
            if !section.set(name, child)? {
                return Err(unknown_key(T::KEYS, child));
            }
        }
        section.check(entry)?;
        Ok(section)
    }

    fn show(&self) -> Option<String> {
        None
    }

    fn changes(&self, old: &Self, path: &str, changed: &mut Vec<String>) {
        self.changed_keys(old, path, changed);
    }
}

/// Declares a section: `field: Type = default`, with the comments that become its documentation.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $name:ident {
            $($(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq)]
        pub(crate) struct $name {
            $($(#[doc = $doc])* pub(crate) $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::config::section::Section for $name {
            const KEYS: &'static [$crate::config::section::Key] = &[
                $($crate::config::section::Key {
                    name: stringify!($field),
                    kind: <$type as $crate::config::section::Setting>::KIND,
                    docs: &[$($doc),*],
                },)*
            ];

            fn set(
                &mut self,
                name: &str,
                entry: &$crate::config::tree::Entry,
            ) -> Result<bool, $crate::config::tree::Problem> {
                use $crate::config::section::Setting;
                match name {
                    $(stringify!($field) => self.$field = Setting::read(entry)?,)*
                    _ => return Ok(false),
                }
                Ok(true)
            }

            fn shown(&self) -> Vec<(&'static str, String)> {
                use $crate::config::section::Setting;
                let all = [$((stringify!($field), self.$field.show()),)*];
                all.into_iter().filter_map(|(name, text)| Some((name, text?))).collect()
            }

            fn changed_keys(&self, old: &Self, path: &str, changed: &mut Vec<String>) {
                use $crate::config::section::Setting;
                let dot = if path.is_empty() { "" } else { "." };
                $(
                    let path_of_field = format!("{path}{dot}{}", stringify!($field));
                    Setting::changes(&self.$field, &old.$field, &path_of_field, changed);
                )*
            }
        }
    };
}
pub(crate) use section;
