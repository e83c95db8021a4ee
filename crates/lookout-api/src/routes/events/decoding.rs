//! Logs decoded as they are read, and filtered by arguments that are no topics.

use std::sync::Arc;

use lookout_abi::{Abi, DecodeError, Event, Location, Value};
use lookout_types::{Hash, Log};
use lookout_warehouse::FILTER_VALUES_MAX;

use super::ask::invalid;
use crate::error::ApiError;
use crate::metrics;

/// Most `where` of one query.
const WHERES_MAX: usize = 16;

/// How logs are decoded, and what their arguments must be.
#[derive(Debug)]
pub(crate) struct Decoding {
    abi: Arc<Abi>,
    /// The one event that is asked for.
    event: Option<Arc<Event>>,
    /// Arguments in the data, by position, with the values that are asked for.
    unindexed: Vec<(usize, Vec<Value>)>,
}

/// A log's event and its arguments in order.
pub(crate) type Decoded = (Arc<Event>, Vec<Value>);

impl Decoding {
    /// With every event of an ABI.
    pub(crate) fn all(abi: Arc<Abi>) -> Self {
        Self { abi, event: None, unindexed: Vec::new() }
    }

    /// With one event of an ABI. Adds its topics to `topics`.
    pub(crate) fn of_event(
        abi: Arc<Abi>,
        event: &str,
        wheres: &[String],
        topics: &mut [Vec<Hash>; 4],
    ) -> Result<Self, ApiError> {
        let event = abi.event(event).map_err(|error| invalid(error.to_string()))?.clone();
        if event.anonymous {
            let detail = format!(
                "`{}` is anonymous, so that its logs cannot be told apart; ask by `address` and `decode` instead",
                event.signature
            );
            return Err(invalid(detail));
        }
        if wheres.len() > WHERES_MAX {
            return Err(invalid(format!("at most {WHERES_MAX} `where`, not {}", wheres.len())));
        }
        topics[0] = vec![event.topic0];
        let given = topics.each_ref().map(|values| !values.is_empty());
        let mut unindexed: Vec<(usize, Vec<Value>)> = Vec::new();
        for text in wheres {
            let (at, value) = condition(&event, text)?;
            match event.params.get(at).map(|param| param.location) {
                Some(Location::Topic(topic)) => {
                    if given.get(topic) == Some(&true) {
                        let detail = format!(
                            "`topic{topic}` and `where` name the same argument; give one of them"
                        );
                        return Err(invalid(detail));
                    }
                    let place = topics.get_mut(topic).zip(value.to_topic());
                    let (place, topic) = place.ok_or_else(|| cannot(text))?;
                    if !place.contains(&topic) {
                        place.push(topic);
                    }
                }
                _ => match unindexed.iter_mut().find(|(of, _)| *of == at) {
                    Some((_, values)) => values.push(value),
                    None => unindexed.push((at, vec![value])),
                },
            }
        }
        if topics.iter().any(|values| values.len() > FILTER_VALUES_MAX) {
            return Err(invalid(format!("an argument takes at most {FILTER_VALUES_MAX} values")));
        }
        Ok(Self { abi, event: Some(event), unindexed })
    }

    /// The one event that is asked for.
    pub(crate) fn event(&self) -> Option<&Event> {
        self.event.as_deref()
    }

    /// Whether pages must be searched for what is asked for.
    pub(crate) fn sifts(&self) -> bool {
        !self.unindexed.is_empty()
    }

    /// Refuses conditions that only decoding can check.
    pub(crate) fn require_topics_only(&self) -> Result<(), ApiError> {
        let Some((at, _)) = self.unindexed.first() else { return Ok(()) };
        let name = self.event.as_ref().and_then(|event| event.params.get(*at));
        let name = name.map_or("", |param| param.name.as_str());
        Err(invalid(format!("`{name}` is not indexed; statistics count by indexed arguments only")))
    }

    /// What a log says; `None` when it is not asked for. One that does not decode is kept: whether
    /// it would be asked for cannot be told.
    pub(crate) fn read(&self, log: &Log) -> Option<Result<Decoded, DecodeError>> {
        let decoded = match &self.event {
            Some(event) => event.decode(log).map(|values| (event.clone(), values)),
            None => self.abi.decode_log(log),
        };
        match decoded {
            Ok((event, values)) => {
                let fits = self.unindexed.iter().all(|(at, wanted)| {
                    values.get(*at).is_some_and(|value| wanted.contains(value))
                });
                fits.then_some(Ok((event, values)))
            }
            Err(error) => {
                metrics::decode_failed();
                Some(Err(error))
            }
        }
    }
}

/// The position and the value of `name:value`.
fn condition(event: &Event, text: &str) -> Result<(usize, Value), ApiError> {
    let Some((name, value)) = text.split_once(':') else {
        let shown: String = text.chars().take(80).collect();
        return Err(invalid(format!("`where` is name:value, not `{shown}`")));
    };
    let Some(at) = event.params.iter().position(|param| param.name == name) else {
        let shown: String = name.chars().take(80).collect();
        let names: Vec<&str> = event.params.iter().map(|param| param.name.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let signature = &event.signature;
        return Err(invalid(format!("`{signature}` has no argument `{shown}`; it has: {names}")));
    };
    let ty = event.params.get(at).map(|param| &param.ty).ok_or_else(|| cannot(text))?;
    let value = Value::parse(value, ty).map_err(|error| invalid(format!("`{name}`: {error}")))?;
    Ok((at, value))
}

fn cannot(text: &str) -> ApiError {
    let shown: String = text.chars().take(80).collect();
    invalid(format!("`{shown}` cannot be searched for"))
}
