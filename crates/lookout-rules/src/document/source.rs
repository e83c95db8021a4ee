//! All that one version of a rule is compiled from.

use std::collections::BTreeMap;
use std::sync::Arc;

use lookout_abi::Abi;
use lookout_types::{Address, ChainId};
use serde::{Deserialize, Serialize};

use super::{RuleDocument, WatchDocument, WatchedAssetDocument, WindowDocument, text};
use crate::error::RuleError;
use crate::rule::{Rule, RuleId, RuleSpec, Watch, WatchedAsset, Window};

/// Characters of a wrong signature that an error repeats.
const SHOWN_CHARS: usize = 80;

/// A document with everything that it refers to spelled out, so that its matches are a function of
/// the frames and of this alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleSource {
    /// The chain, whatever it is called.
    #[serde(with = "chain_number")]
    pub chain: ChainId,
    /// The document.
    pub document: RuleDocument,
    /// The text of the ABI that the document names; `None` when it names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abi: Option<String>,
    /// The labels that its condition uses.
    #[serde(default, with = "text::labels")]
    pub labels: BTreeMap<String, Vec<Address>>,
}

mod chain_number {
    use lookout_types::ChainId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &ChainId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(id.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ChainId, D::Error> {
        u64::deserialize(from).map(ChainId)
    }
}

impl RuleSource {
    /// Checks and compiles it.
    ///
    /// # Errors
    /// [`RuleError`] points at the part of the document that is wrong.
    pub fn compile(&self, id: RuleId, version: u32) -> Result<Rule, RuleError> {
        self.document.check()?;
        let labels = self.labels.iter().map(|(name, set)| (name.clone(), set.as_slice().into()));
        let spec = RuleSpec {
            id,
            version,
            name: self.document.name.clone(),
            chain: self.chain,
            watch: self.watch()?,
            condition: self.document.condition.clone(),
            window: self.document.window.as_ref().map(window),
            template: self.document.template.clone(),
        };
        Rule::compile(spec, &labels.collect())
    }

    /// The same with no more of its ABI than it uses. One that does not have what the document names
    /// stays as it is: compiling it says what is there.
    #[must_use]
    pub fn narrowed(self) -> Self {
        let used = match (&self.abi, &self.document.watch) {
            (Some(abi), WatchDocument::Event { event, .. }) => Abi::event_alone(abi, event).ok(),
            (Some(abi), WatchDocument::Transaction { function: Some(function), .. }) => {
                Abi::function_alone(abi, function).ok()
            }
            _ => None,
        };
        Self { abi: used.or(self.abi), ..self }
    }

    /// The records that it watches, its ABI parsed.
    ///
    /// # Errors
    /// [`RuleError`] when the ABI, or the signature in its place, is wrong or does not have it.
    pub fn watch(&self) -> Result<Watch, RuleError> {
        Ok(match &self.document.watch {
            WatchDocument::Event { event, addresses, .. } => {
                let abi = self.abi_with("event", event)?;
                let event = match &self.abi {
                    Some(_) => event.clone(),
                    None => first(abi.events().first().map(|event| &event.signature), event)?,
                };
                abi.event(&event)?;
                Watch::Event { abi, event, addresses: addresses.clone() }
            }
            WatchDocument::Transaction { addresses, function, .. } => {
                let function = match function {
                    None if self.abi.is_some() => {
                        return Err(RuleError::Invalid(
                            "the rule names an ABI but no function; name one, or leave the ABI out"
                                .to_owned(),
                        ));
                    }
                    None => None,
                    Some(function) => {
                        let abi = self.abi_with("function", function)?;
                        let name = match &self.abi {
                            Some(_) => function.clone(),
                            None => {
                                let signature = abi.functions().first().map(|f| &f.signature);
                                first(signature, function)?
                            }
                        };
                        abi.function(&name)?;
                        Some((abi, name))
                    }
                };
                Watch::Transaction { addresses: addresses.clone(), function }
            }
            WatchDocument::Transfer { asset } => Watch::Transfer {
                asset: match asset {
                    WatchedAssetDocument::Any => WatchedAsset::Any,
                    WatchedAssetDocument::Native => WatchedAsset::Native,
                    WatchedAssetDocument::Tokens(tokens) => WatchedAsset::Tokens(tokens.clone()),
                },
            },
            WatchDocument::Balance { addresses } => {
                if addresses.is_empty() {
                    return Err(RuleError::Invalid(
                        "a balance rule names the accounts whose balance is read; add `addresses`"
                            .to_owned(),
                    ));
                }
                Watch::Balance { addresses: addresses.clone() }
            }
        })
    }

    /// The ABI that the document names, or one made of the signature that stands in its place.
    fn abi_with(&self, what: &str, text: &str) -> Result<Arc<Abi>, RuleError> {
        if let Some(abi) = &self.abi {
            return Ok(Arc::new(Abi::parse(abi)?));
        }
        if let Some(name) = self.document.abi() {
            return Err(RuleError::Invalid(format!("there is no ABI `{}`", shown(name))));
        }
        if !text.trim_start().starts_with(&format!("{what} ")) {
            return Err(RuleError::Invalid(format!(
                "the rule names no ABI, so its {what} is spelled out, as in `{}`; `{}` is not; \
                 write it so, or name an `abi`",
                if what == "event" {
                    "event Sent(address indexed from, uint256 value)"
                } else {
                    "function send(address to, uint256 value)"
                },
                shown(text)
            )));
        }
        Ok(Arc::new(Abi::from_json(serde_json::json!([text.trim()]))?))
    }
}

fn first(signature: Option<&String>, text: &str) -> Result<String, RuleError> {
    let wrong = || RuleError::Invalid(format!("`{}` is not a signature", shown(text)));
    signature.cloned().ok_or_else(wrong)
}

fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_CHARS).collect()
}

fn window(window: &WindowDocument) -> Window {
    match window {
        WindowDocument::Count { over, condition } => {
            Window::Count { over_s: over.0, condition: condition.clone() }
        }
        WindowDocument::Sum { over, of, condition } => {
            Window::Sum { over_s: over.0, of: of.clone(), condition: condition.clone() }
        }
        WindowDocument::Silence { for_ } => Window::Silence { for_s: for_.0 },
    }
}
