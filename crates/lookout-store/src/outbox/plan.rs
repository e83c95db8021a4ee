//! What becomes of the deliveries that are due on one channel: a pure decision.

use lookout_types::{ChainId, UnixMillis};

use super::{Leased, Leasing};
use crate::{DeliveryKind, SilenceMatcher};

/// How long a retraction waits whose alert is being sent, in milliseconds.
const LOOK_AGAIN_MS: i64 = 1_000;

/// A due delivery, with what decides about it.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) id: String,
    pub(super) kind: DeliveryKind,
    /// Its alert's id; `None` for a test.
    pub(super) alert_id: Option<String>,
    /// Tries before this one.
    pub(super) attempts: i64,
    pub(super) throttled_since: Option<UnixMillis>,
    pub(super) created_at: UnixMillis,
    /// `None` for a test, and where the alert's row is gone.
    pub(super) alert: Option<CandidateAlert>,
    /// For a retraction: the delivery of its alert on the same channel.
    pub(super) told: Option<Told>,
    /// Characters of the alert.
    pub(super) chars: i64,
}

#[derive(Debug, Clone)]
pub(super) struct CandidateAlert {
    pub(super) rule_id: String,
    pub(super) chain_id: ChainId,
    pub(super) is_retracted: bool,
}

/// What became of an alert's own delivery.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) id: String,
    pub(super) state: String,
    /// A try ended without a clear answer.
    pub(super) maybe_told: bool,
    pub(super) message_id: Option<String>,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// These go out together: positions among the candidates.
    pub(super) chosen: Vec<usize>,
    pub(super) kind: Option<DeliveryKind>,
    pub(super) reply_to: Option<String>,
    /// These are not to be sent: delivery, state, reason.
    pub(super) ended: Vec<(String, &'static str, String)>,
    /// These wait until then.
    pub(super) waiting: Vec<(String, UnixMillis)>,
}

impl Plan {
    pub(super) fn with(&self, leased: Leased) -> Leasing {
        let count = |state| self.ended.iter().filter(|(_, to, _)| *to == state).count();
        Leasing { leased, silenced: count("silenced"), cancelled: count("cancelled") }
    }
}

/// What to do with one delivery.
enum Fate {
    Send { reply_to: Option<String> },
    End(&'static str, String),
    Wait,
}

/// A silence that holds now.
#[derive(Debug, Clone)]
pub(super) struct ActiveSilence {
    pub(super) id: String,
    pub(super) matcher: SilenceMatcher,
}

/// Limits and circumstances of a plan.
#[derive(Debug)]
pub(super) struct Given<'a> {
    pub(super) channel: &'a str,
    pub(super) silences: &'a [ActiveSilence],
    pub(super) items_max: usize,
    pub(super) chars_max: i64,
    pub(super) now: UnixMillis,
}

/// Decides over due deliveries in their order. The first that can be sent sets what the parcel
/// tells; those of its kind join it.
pub(super) fn plan(candidates: &[Candidate], given: &Given<'_>) -> Plan {
    let mut plan = Plan::default();
    let mut chars: i64 = 0;
    let mut is_full = false;
    for (at, candidate) in candidates.iter().enumerate() {
        let fate = fate(candidate, given, &mut plan);
        match fate {
            Fate::End(state, reason) => plan.ended.push((candidate.id.clone(), state, reason)),
            Fate::Wait => {
                let at = given.now.saturating_add(LOOK_AGAIN_MS);
                plan.waiting.push((candidate.id.clone(), at));
            }
            Fate::Send { .. } if is_full => {}
            Fate::Send { reply_to } => {
                let joins = match plan.kind {
                    None => true,
                    // Tests tell nothing together that one would not tell alone.
                    Some(kind) => {
                        kind == candidate.kind
                            && kind != DeliveryKind::Test
                            && plan.reply_to == reply_to
                    }
                };
                if !joins {
                    continue;
                }
                chars = chars.saturating_add(candidate.chars);
                let fits = chars <= given.chars_max && plan.chosen.len() < given.items_max;
                if !fits && !plan.chosen.is_empty() {
                    is_full = true;
                    continue;
                }
                plan.kind = Some(candidate.kind);
                plan.reply_to = reply_to;
                plan.chosen.push(at);
            }
        }
    }
    plan
}

fn fate(candidate: &Candidate, given: &Given<'_>, plan: &mut Plan) -> Fate {
    match (candidate.kind, &candidate.alert) {
        (DeliveryKind::Test, _) => Fate::Send { reply_to: None },
        (_, None) => Fate::End("cancelled", "its alert is gone".to_owned()),
        (DeliveryKind::Alert, Some(alert)) => alert_fate(alert, given),
        (DeliveryKind::Retraction, Some(_)) => retraction_fate(candidate, plan),
    }
}

const UNDONE_BEFORE: &str = "its block was undone before it was sent";

fn alert_fate(alert: &CandidateAlert, given: &Given<'_>) -> Fate {
    if alert.is_retracted {
        return Fate::End("cancelled", UNDONE_BEFORE.to_owned());
    }
    let silence = given
        .silences
        .iter()
        .find(|silence| silence.matcher.matches(&alert.rule_id, given.channel, alert.chain_id));
    match silence {
        Some(silence) => Fate::End("silenced", format!("silence {}", silence.id)),
        None => Fate::Send { reply_to: None },
    }
}

/// A retraction goes to whoever was told, or may have been: a try that ended without an answer can
/// have arrived.
fn retraction_fate(candidate: &Candidate, plan: &mut Plan) -> Fate {
    let never = || Fate::End("cancelled", "its alert was never sent".to_owned());
    let Some(told) = &candidate.told else { return never() };
    match told.state.as_str() {
        "sent" => Fate::Send { reply_to: told.message_id.clone() },
        "sending" => Fate::Wait,
        "queued" => {
            plan.ended.push((told.id.clone(), "cancelled", UNDONE_BEFORE.to_owned()));
            if told.maybe_told { Fate::Send { reply_to: None } } else { never() }
        }
        // Whatever became of it later.
        _ if told.maybe_told => Fate::Send { reply_to: None },
        _ => never(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(id: &str) -> Candidate {
        let alert =
            CandidateAlert { rule_id: "r".into(), chain_id: ChainId(1), is_retracted: false };
        let kind = DeliveryKind::Alert;
        Candidate {
            id: id.into(),
            kind,
            alert_id: Some("a".into()),
            attempts: 0,
            throttled_since: None,
            created_at: 0,
            alert: Some(alert),
            told: None,
            chars: 10,
        }
    }

    fn retraction(id: &str, state: &str, maybe_told: bool) -> Candidate {
        let message_id = (state == "sent").then(|| "m1".to_owned());
        let told = Told { id: format!("of-{id}"), state: state.into(), maybe_told, message_id };
        Candidate { kind: DeliveryKind::Retraction, told: Some(told), ..alert(id) }
    }

    fn given(silences: &[ActiveSilence]) -> Given<'_> {
        Given { channel: "c", silences, items_max: 3, chars_max: 1_000, now: 5_000 }
    }

    fn chosen<'a>(plan: &Plan, candidates: &'a [Candidate]) -> Vec<&'a str> {
        plan.chosen.iter().map(|at| candidates[*at].id.as_str()).collect()
    }

    fn decide(candidates: &[Candidate]) -> Plan {
        plan(candidates, &given(&[]))
    }

    #[test]
    fn what_is_due_goes_together_up_to_the_limits() {
        let many: Vec<_> = ["a", "b", "c", "d"].map(alert).into();
        assert_eq!(chosen(&decide(&many), &many), ["a", "b", "c"]);
        let tight = Given { chars_max: 20, ..given(&[]) };
        assert_eq!(chosen(&plan(&many, &tight), &many), ["a", "b"]);
        let tighter = Given { chars_max: 1, ..given(&[]) };
        assert_eq!(chosen(&plan(&many, &tighter), &many), ["a"], "one alert always fits");
    }

    #[test]
    fn kinds_do_not_mix_and_tests_go_alone() {
        let mixed = [alert("a"), retraction("b", "sent", false), alert("c")];
        let decided = decide(&mixed);
        assert_eq!((chosen(&decided, &mixed), decided.reply_to.clone()), (vec!["a", "c"], None));
        let decided = decide(&mixed[1..]);
        assert_eq!(chosen(&decided, &mixed[1..]), ["b"]);
        assert_eq!(decided.reply_to.as_deref(), Some("m1"));
        let test = |id: &str| Candidate { kind: DeliveryKind::Test, alert: None, ..alert(id) };
        assert_eq!(decide(&[test("a"), test("b")]).chosen, [0]);
    }

    #[test]
    fn a_retraction_follows_what_became_of_its_alert() {
        for (state, maybe_told, is_sent, ended) in [
            ("sent", false, true, vec![]),
            ("sending", false, false, vec![]),
            ("queued", false, false, vec!["of-r", "r"]),
            ("queued", true, true, vec!["of-r"]),
            ("silenced", false, false, vec!["r"]),
            ("silenced", true, true, vec![]),
            ("dead", false, false, vec!["r"]),
            ("dead", true, true, vec![]),
            ("cancelled", false, false, vec!["r"]),
            ("cancelled", true, true, vec![]),
        ] {
            let decided = decide(&[retraction("r", state, maybe_told)]);
            assert_eq!(decided.chosen.len(), usize::from(is_sent), "{state} {maybe_told}");
            let told: Vec<_> = decided.ended.iter().map(|(id, ..)| id.as_str()).collect();
            assert_eq!(told, ended, "{state} {maybe_told}");
            assert!(decided.ended.iter().all(|(_, to, _)| *to == "cancelled"));
            assert_eq!(decided.waiting.len(), usize::from(state == "sending"));
        }
        let orphan = Candidate { told: None, ..retraction("r", "sent", false) };
        assert_eq!(decide(&[orphan]).ended.len(), 1);
    }

    #[test]
    fn silences_end_alerts_only_and_undone_ones_are_cancelled() {
        let matcher = SilenceMatcher::default();
        let silences = [ActiveSilence { id: "s".into(), matcher }];
        let mut undone = alert("u");
        undone.alert.as_mut().unwrap().is_retracted = true;
        let all = [alert("a"), retraction("r", "sent", false), undone];
        let decided = plan(&all, &given(&silences));
        assert_eq!(chosen(&decided, &all), ["r"]);
        let ended: Vec<_> = decided.ended.iter().map(|(id, to, _)| (id.as_str(), *to)).collect();
        assert_eq!(ended, [("a", "silenced"), ("u", "cancelled")]);
        assert_eq!(decided.ended[0].2, "silence s");
    }
}
