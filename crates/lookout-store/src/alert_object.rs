//! An alert as every client reads it: in answers, in the live stream, in the body of a webhook.
//!
//! It is written here, once, so that one parser is enough for all of them. Nothing in it names the
//! tenant, a channel or a secret.

use jiff::Timestamp;
use lookout_types::{UnixMillis, UnixSeconds};
use serde::ser::Error;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::{Alert, AlertSpan};

/// The members in the order in which they are written. A new one may be added, none may go.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    id: &'a str,
    state: &'static str,
    rule_id: &'a str,
    rule_version: u32,
    rule_name: &'a str,
    chain_id: u64,
    block: Block,
    block_time: String,
    record: &'a Value,
    occurrence: u32,
    text: &'a str,
    spans: &'a [AlertSpan],
    facts: &'a Value,
    confirms_at: u64,
    created_at: String,
    confirmed_at: Option<String>,
    retracted_at: Option<String>,
}

#[derive(Serialize)]
struct Block {
    number: u64,
    hash: String,
}

impl Serialize for Alert {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let object = Object {
            id: &self.id,
            state: self.state.as_str(),
            rule_id: &self.rule_id,
            rule_version: self.rule_version,
            rule_name: &self.rule_name,
            chain_id: self.chain.0,
            block: Block { number: self.block.number, hash: self.block.hash.to_string() },
            block_time: seconds(self.block_time).map_err(S::Error::custom)?,
            record: &self.record,
            occurrence: self.occurrence,
            text: &self.text,
            spans: &self.spans,
            facts: &self.facts,
            confirms_at: self.confirms_at,
            created_at: millis(self.created_at).map_err(S::Error::custom)?,
            confirmed_at: self.confirmed_at.map(millis).transpose().map_err(S::Error::custom)?,
            retracted_at: self.retracted_at.map(millis).transpose().map_err(S::Error::custom)?,
        };
        object.serialize(to)
    }
}

/// RFC 3339; a chain may claim a time that no calendar has.
fn seconds(seconds: UnixSeconds) -> Result<String, String> {
    let time = i64::try_from(seconds).ok().and_then(|time| Timestamp::from_second(time).ok());
    let time = time.ok_or_else(|| format!("a block's time is none: {seconds} s"))?;
    Ok(time.to_string())
}

fn millis(millis: UnixMillis) -> Result<String, String> {
    let time = Timestamp::from_millisecond(millis);
    time.map(|time| time.to_string()).map_err(|_| format!("an alert's time is none: {millis} ms"))
}

#[cfg(test)]
mod tests {
    use lookout_types::{BlockRef, ChainId, Hash};
    use serde_json::json;

    use super::*;
    use crate::{AlertState, SpanKind};

    fn alert() -> Alert {
        Alert {
            id: "a".into(),
            rule_id: "r".into(),
            rule_version: 3,
            rule_name: "Large transfer".into(),
            chain: ChainId(1),
            block: BlockRef { number: 19_000_000, hash: Hash([7; 32]) },
            block_time: 1_700_000_000,
            record: json!({ "kind": "log", "logIndex": 4 }),
            occurrence: 2,
            text: "moved 5".into(),
            spans: vec![AlertSpan { kind: SpanKind::Code, offset: 6, length: 1 }],
            facts: json!({ "value": "5" }),
            confirms_at: 19_000_003,
            state: AlertState::Retracted,
            created_at: 1_700_000_001_000,
            confirmed_at: Some(1_700_000_002_005),
            retracted_at: Some(1_700_000_003_000),
        }
    }

    #[test]
    fn every_member_is_there() {
        let hash = "07".repeat(32);
        let expected = format!(
            "{{\"id\":\"a\",\"state\":\"retracted\",\"ruleId\":\"r\",\"ruleVersion\":3,\
             \"ruleName\":\"Large transfer\",\"chainId\":1,\
             \"block\":{{\"number\":19000000,\"hash\":\"0x{hash}\"}},\
             \"blockTime\":\"2023-11-14T22:13:20Z\",\"record\":{{\"kind\":\"log\",\"logIndex\":4}},\
             \"occurrence\":2,\"text\":\"moved 5\",\
             \"spans\":[{{\"kind\":\"code\",\"offset\":6,\"length\":1}}],\"facts\":{{\"value\":\"5\"}},\
             \"confirmsAt\":19000003,\"createdAt\":\"2023-11-14T22:13:21Z\",\
             \"confirmedAt\":\"2023-11-14T22:13:22.005Z\",\"retractedAt\":\"2023-11-14T22:13:23Z\"}}"
        );
        assert_eq!(serde_json::to_string(&alert()).unwrap(), expected);
    }

    #[test]
    fn a_time_that_no_calendar_has_is_an_error() {
        for odd in [
            Alert { block_time: u64::MAX, ..alert() },
            Alert { created_at: i64::MAX, ..alert() },
            Alert { retracted_at: Some(i64::MIN), ..alert() },
        ] {
            let error = serde_json::to_string(&odd).unwrap_err().to_string();
            assert!(error.contains("time is none: "), "{error}");
        }
    }
}
