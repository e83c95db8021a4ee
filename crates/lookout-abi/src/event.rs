//! Events and functions of an ABI, and where their arguments lie.

use bytes::Bytes;
use lookout_types::{Hash, Log};
use serde_json::Map;

use crate::decode::{check_word, decode_word};
use crate::{AbiType, DecodeError, Value, decode_params, word_at};

/// One argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Its name; `arg0`, `arg1` … where the ABI gives none.
    pub name: String,
    /// Its type.
    pub ty: AbiType,
    /// Whether it lies in a topic; always false for functions.
    pub indexed: bool,
    /// Where it lies.
    pub location: Location,
}

/// Where an argument lies in a log or in call data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Location {
    /// In this topic, counted from 0.
    Topic(usize),
    /// At this byte of the data; for a dynamic type, its offset word does.
    Data(usize),
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Name and types: `Transfer(address,address,uint256)`.
    pub signature: String,
    /// Keccak-256 of the signature; in the first topic unless anonymous.
    pub topic0: Hash,
    /// Whether the first topic is left out.
    pub anonymous: bool,
    /// Its arguments.
    pub params: Vec<Param>,
    /// The types of those in the data.
    data_types: Vec<(String, AbiType)>,
    topics: usize,
    head_bytes: usize,
    plain: bool,
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Name and types: `transfer(address,uint256)`.
    pub signature: String,
    /// The first four bytes of the signature's hash.
    pub selector: [u8; 4],
    /// Its arguments; locations count from behind the selector.
    pub params: Vec<Param>,
    types: Vec<(String, AbiType)>,
}

/// Sets the locations of parameters and returns the size of the head.
fn place(params: &mut [Param], first_topic: usize) -> (usize, usize) {
    let (mut topic, mut head_bytes) = (first_topic, 0);
    for param in params {
        if param.indexed {
            param.location = Location::Topic(topic);
            topic += 1;
        } else {
            param.location = Location::Data(head_bytes);
            head_bytes += 32 * param.ty.head_words();
        }
    }
    (topic, head_bytes)
}

fn data_types(params: &[Param]) -> Vec<(String, AbiType)> {
    params.iter().filter(|p| !p.indexed).map(|p| (p.name.clone(), p.ty.clone())).collect()
}

/// An object of the arguments by name.
fn named_json(params: &[Param], values: &[Value]) -> serde_json::Value {
    let members = params.iter().zip(values);
    let members = members.map(|(param, value)| (param.name.clone(), value.to_json(&param.ty)));
    serde_json::Value::Object(members.collect::<Map<_, _>>())
}

impl Event {
    pub(crate) fn new(
        name: String,
        signature: String,
        anonymous: bool,
        topic0: Hash,
        mut params: Vec<Param>,
    ) -> Self {
        let (topics, head_bytes) = place(&mut params, usize::from(!anonymous));
        Self {
            signature,
            name,
            topic0,
            anonymous,
            data_types: data_types(&params),
            topics,
            head_bytes,
            plain: params.iter().all(|param| param.indexed || param.ty.is_word()),
            params,
        }
    }

    /// Whether topics and signature fit; the data may still not decode.
    pub fn fits(&self, log: &Log) -> bool {
        log.topics.len() == self.topics
            && (self.anonymous || log.topics.first() == Some(&self.topic0))
    }

    /// Number of topics that its logs have.
    pub fn topic_count(&self) -> usize {
        self.topics
    }

    /// Whether every argument is one word, so that [`Event::check`] proves that it decodes.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    fn require_fit(&self, log: &Log) -> Result<(), DecodeError> {
        if log.topics.len() != self.topics {
            return Err(DecodeError::TopicCount {
                signature: self.signature.clone(),
                expected: self.topics,
                found: log.topics.len(),
            });
        }
        if self.fits(log) {
            Ok(())
        } else {
            Err(DecodeError::OtherEvent { signature: self.signature.clone() })
        }
    }

    /// Decodes the arguments, in order.
    ///
    /// # Errors
    /// [`DecodeError`] when the log is another event or an argument holds no value of its type.
    pub fn decode(&self, log: &Log) -> Result<Vec<Value>, DecodeError> {
        self.require_fit(log)?;
        if self.plain {
            // Not `collect`: through a `Result` it does not know the length, and grows twice.
            let mut values = Vec::with_capacity(self.params.len());
            for param in &self.params {
                values.push(decode_word(param, log)?);
            }
            return Ok(values);
        }
        let mut data = decode_params(&self.data_types, &log.data)?.into_iter();
        let mut values = Vec::with_capacity(self.params.len());
        for param in &self.params {
            values.push(match param.location {
                Location::Topic(_) => decode_word(param, log)?,
                Location::Data(_) => match data.next() {
                    Some(value) => value,
                    None => return Err(self.short(log)),
                },
            });
        }
        Ok(values)
    }

    /// Whether [`Event::decode`] would succeed, without building values where all are words.
    ///
    /// # Errors
    /// The error that decoding gives.
    pub fn check(&self, log: &Log) -> Result<(), DecodeError> {
        if !self.plain {
            return self.decode(log).map(|_| ());
        }
        self.require_fit(log)?;
        if log.data.len() < self.head_bytes {
            return Err(self.short(log));
        }
        self.params.iter().try_for_each(|param| check_word(param, log))
    }

    fn short(&self, log: &Log) -> DecodeError {
        let outside = |param: &&Param| match param.location {
            Location::Data(offset) => word_at(&log.data, offset).is_none(),
            Location::Topic(_) => false,
        };
        let argument = self.params.iter().find(outside).map(|param| param.name.clone());
        DecodeError::Short { argument: argument.unwrap_or_default(), size_bytes: log.data.len() }
    }

    /// The decoded arguments as a JSON object.
    pub fn to_json(&self, values: &[Value]) -> serde_json::Value {
        named_json(&self.params, values)
    }
}

impl Function {
    pub(crate) fn new(
        name: String,
        signature: String,
        selector: [u8; 4],
        mut params: Vec<Param>,
    ) -> Self {
        place(&mut params, 0);
        Self { signature, name, selector, types: data_types(&params), params }
    }

    /// Decodes the arguments of a call, selector included in `input`.
    ///
    /// # Errors
    /// [`DecodeError`] when the selector is another's or an argument holds no value of its type.
    pub fn decode(&self, input: &Bytes) -> Result<Vec<Value>, DecodeError> {
        let selector = selector(input)?;
        if selector != self.selector {
            return Err(DecodeError::UnknownFunction(selector));
        }
        decode_params(&self.types, &input.slice(4..))
    }

    /// The decoded arguments as a JSON object.
    pub fn to_json(&self, values: &[Value]) -> serde_json::Value {
        named_json(&self.params, values)
    }
}

/// The first four bytes of call data.
pub(crate) fn selector(input: &[u8]) -> Result<[u8; 4], DecodeError> {
    input.first_chunk().copied().ok_or(DecodeError::NoSelector(input.len()))
}
