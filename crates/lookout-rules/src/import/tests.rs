//! Files in the shapes of that program's examples, and what they become.

use proptest::prelude::*;
use serde_json::json;

use super::expression::{Names, translate};
use super::spelled::Argument;
use super::*;
use crate::document::{RuleSource, WatchDocument};
use crate::rule::RuleId;

const USDC: &str = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48";

fn network() -> Value {
    json!({
        "network_type": "EVM", "slug": "ethereum_mainnet", "name": "Ethereum Mainnet",
        "rpc_urls": [{"type_": "rpc", "url": {"type": "plain", "value": "https://eth.example"}, "weight": 100}],
        "chain_id": 1, "block_time_ms": 12000, "confirmation_blocks": 12,
        "cron_schedule": "0 */1 * * * *", "max_past_blocks": 54, "store_blocks": false,
        "recovery_config": {"enabled": false, "cron_schedule": "0 */5 * * * *"}
    })
}

fn transfer_abi() -> Value {
    json!([
        {"type": "event", "name": "Transfer", "anonymous": false, "inputs": [
            {"name": "from", "type": "address", "indexed": true},
            {"name": "to", "type": "address", "indexed": true},
            {"name": "value", "type": "uint256", "indexed": false}]},
        {"type": "function", "name": "transfer", "stateMutability": "nonpayable", "outputs": [],
         "inputs": [{"name": "to", "type": "address"}, {"name": "value", "type": "uint256"}]},
        {"type": "function", "name": "increment", "stateMutability": "nonpayable", "outputs": [], "inputs": []},
        {"type": "event", "name": "Filled", "inputs": [
            {"name": "order", "type": "tuple", "components": [
                {"name": "maker", "type": "address"}, {"name": "sizes", "type": "uint256[]"}]},
            {"name": "note", "type": "string"}]}
    ])
}

fn monitor() -> Value {
    json!({
        "name": "Mint USDC Token", "paused": false, "networks": ["ethereum_mainnet"],
        "addresses": [{"address": USDC, "contract_spec": transfer_abi()}],
        "match_conditions": {
            "functions": [
                {"signature": "transfer(address, uint256)", "expression": "value > 0"},
                {"signature": "increment()", "expression": null}],
            "events": [{"signature": "Transfer(address, address, uint256)", "expression":
                "to == 0xf423d9c1ffeb6386639d024f3b241dab2331b635 AND from == 0x58b704065b7aff3ed351052f8560019e05925023 AND value > 8000000000"}],
            "transactions": [{"status": "Success", "expression": "value >= 0"}]
        },
        "trigger_conditions": [], "triggers": ["evm_large_transfer_usdc_telegram"]
    })
}

fn triggers() -> Value {
    json!({"evm_large_transfer_usdc_telegram": {
        "name": "Large Transfer Telegram Notification", "trigger_type": "telegram",
        "config": {"token": {"type": "plain", "value": "12:ab"}, "chat_id": "9876543210",
            "disable_web_preview": true, "message": {"title": "${monitor.name} triggered",
            "body": "Large transfer of ${events.0.args.value} USDC from ${events.0.args.from} in ${transaction.hash}"}}
    }})
}

fn import(network: &Value, monitor: &Value, triggers: &Value) -> OzImport {
    let one = |name: &str, value: &Value| vec![(name.to_owned(), value.to_string())];
    let files = OzFiles {
        networks: one("networks/a.json", network),
        monitors: one("monitors/a.json", monitor),
        triggers: one("triggers/a.json", triggers),
    };
    let import = import_oz(&files, &|chain| (chain.0 == 1).then(|| "ethereum".to_owned()));
    for rule in &import.rules {
        let (chain, document) = (rule.chain, rule.document.clone());
        let source = RuleSource { chain, document, abi: None, labels: [].into() };
        source.compile(RuleId(0), 1).unwrap();
    }
    import
}

#[track_caller]
fn has(import: &OzImport, effect: Effect, reason: &str) {
    let found = import.findings.iter().any(|f| f.effect == effect && f.reason.contains(reason));
    assert!(found, "no `{effect}` with `{reason}` in {:#?}", import.findings);
}

#[test]
fn the_example_of_its_documentation_becomes_three_rules() {
    let import = import(&network(), &monitor(), &triggers());
    let event = &import.rules[0].document;
    assert_eq!(event.name, "Mint USDC Token: Transfer(address,address,uint256)");
    assert_eq!((event.chain.as_str(), event.confirmations), ("ethereum", 12));
    let WatchDocument::Event { abi: None, event: signature, addresses } = &event.watch else {
        panic!("{:?}", event.watch)
    };
    assert_eq!(
        signature,
        "event Transfer(address indexed from, address indexed to, uint256 value)"
    );
    assert_eq!(addresses[0].to_string(), USDC);
    assert_eq!(
        event.condition,
        "(args.to == \"0xf423d9c1ffeb6386639d024f3b241dab2331b635\" && args.from == \
         \"0x58b704065b7aff3ed351052f8560019e05925023\" && args.value > 8000000000) && tx.status && \
         (tx.value >= 0)"
    );
    assert_eq!(
        event.template.as_deref(),
        Some(
            "{{ rule.name }} triggered\n\nLarge transfer of {{ args.value }} USDC from {{ args.from }} in \
             {{ tx.hash }}"
        )
    );
    assert_eq!(event.channels, ["evm_large_transfer_usdc_telegram"]);
    let functions: Vec<_> = import.rules[1..].iter().map(|rule| &rule.document.watch).collect();
    let WatchDocument::Transaction { function: Some(function), .. } = functions[0] else {
        panic!("{functions:?}")
    };
    assert_eq!(function, "function transfer(address to, uint256 value)");
    assert_eq!(
        import.rules[1].document.condition,
        "(args.value > 0) && tx.status && (tx.value >= 0)"
    );
    assert_eq!(
        (functions.len(), import.rules[2].document.condition.as_str()),
        (2, "tx.status && (tx.value >= 0)")
    );

    let channel = &import.channels["evm_large_transfer_usdc_telegram"];
    assert_eq!(
        channel.request,
        json!({"kind": "telegram", "token": "12:ab", "chatId": 9_876_543_210_i64,
            "name": "Large Transfer Telegram Notification"})
    );
    has(&import, Effect::Changed, "it becomes 3 rules");
    has(&import, Effect::Changed, "once per log");
    has(&import, Effect::Dropped, "`cron_schedule`");
    has(&import, Effect::Manual, "`rpc_urls`");
    // In the rules on functions there is no event.
    has(&import, Effect::Dropped, "`${events.0.args.value}` in the message has no equivalent");
    assert!(import.rules[1].document.template.as_ref().unwrap().contains("transfer of ? USDC"));
}

#[test]
fn what_has_no_equivalent_is_told_and_never_dropped_silently() {
    let mut stellar = network();
    stellar["network_type"] = "Stellar".into();
    let got = import(&stellar, &monitor(), &triggers());
    assert_eq!(got.rules, []);
    has(&got, Effect::Dropped, "networks of type `Stellar`");
    has(&got, Effect::Dropped, "the network `ethereum_mainnet` is not among those imported");

    let mut unknown = network();
    unknown["chain_id"] = 10.into();
    unknown["surprise"] = 7.into();
    let got = import(&unknown, &monitor(), &triggers());
    assert_eq!(got.rules[0].document.chain, "eip155:10");
    has(&got, Effect::Manual, "chain 10 is not configured");
    has(&got, Effect::Dropped, "`surprise` has no equivalent");

    let mut scripted = monitor();
    scripted["trigger_conditions"] =
        json!([{"script_path": "./a.sh", "language": "Bash", "arguments": [], "timeout_ms": 5}]);
    scripted["chain_configurations"] = json!([{"x": 1}]);
    scripted["match_conditions"]["events"][0]["expression"] = "value > 1 AND nobody == 2".into();
    scripted["match_conditions"]["functions"] =
        json!([{"signature": "burn(uint256)"}, {"signature": "increment()", "more": 1}]);
    scripted["paused"] = true.into();
    let script =
        json!({"s": {"name": "S", "trigger_type": "script", "config": {"script_path": "a"}}});
    let got = import(&network(), &scripted, &script);
    has(&got, Effect::Changed, "`trigger_conditions` run scripts");
    has(&got, Effect::Dropped, "`chain_configurations` has no equivalent");
    has(&got, Effect::Dropped, "no argument is called `nobody`");
    has(&got, Effect::Dropped, "has the function `burn(uint256)`");
    has(&got, Effect::Dropped, "`more` has no equivalent");
    has(&got, Effect::Dropped, "scripts are not run");
    has(&got, Effect::Dropped, "the trigger `evm_large_transfer_usdc_telegram` did not become");
    assert_eq!(got.rules.len(), 1);
    assert!(got.rules[0].paused && got.rules[0].document.channels.is_empty());

    let files = OzFiles {
        networks: vec![("n.json".to_owned(), "{".to_owned())],
        monitors: vec![("m.json".to_owned(), "[]".to_owned())],
        triggers: vec![("t.json".to_owned(), "{\"x\": 1}".to_owned())],
    };
    let got = import_oz(&files, &|_| None);
    assert_eq!(got.findings.len(), 3, "{:?}", got.findings);
    assert_eq!(got.findings[1].to_string(), "t.json: x: dropped: the trigger is not a JSON object");
}

#[test]
fn what_cannot_be_read_does_not_make_the_rest_match_more_than_was_meant() {
    for (member, reason) in [
        ("match_conditions", "has no `match_conditions`"),
        ("addresses", "`addresses` is no list of objects"),
        ("networks", "`networks` is no list of texts"),
    ] {
        let mut broken = monitor();
        broken["match_conditions"]["events"] = json!([]);
        broken["match_conditions"]["functions"] = json!([]);
        broken[member] = "x".into();
        let got = import(&network(), &broken, &triggers());
        assert_eq!(got.rules, [], "{member}");
        has(&got, Effect::Dropped, reason);
    }
    let mut broken = monitor();
    broken["match_conditions"]["transactions"] = json!(["value > 5"]);
    let got = import(&network(), &broken, &triggers());
    assert_eq!(got.rules, []);
    has(&got, Effect::Dropped, "`transactions` is no list of objects");
    let mut broken = monitor();
    broken["match_conditions"]["events"][0]["expression"] = 5.into();
    let got = import(&network(), &broken, &triggers());
    assert_eq!(got.rules.len(), 2);
    has(&got, Effect::Dropped, "`expression` is no text");
    let mut broken = monitor();
    broken["match_conditions"] = json!({});
    broken["addresses"][0]["address"] = "0x12".into();
    assert_eq!(import(&network(), &broken, &triggers()).rules, []);
}

#[test]
fn every_kind_of_trigger_becomes_a_channel_or_says_why_not() {
    let plain = |value: &str| json!({"type": "plain", "value": value});
    let message = json!({"title": "t", "body": "b"});
    let triggers = json!({
        "a": {"name": "A", "trigger_type": "slack", "config": {
            "slack_url": plain("https://hooks.slack.com/services/A/B/C"), "message": message}},
        "b": {"name": "B", "trigger_type": "discord", "config": {
            "discord_url": plain("https://discord.com/api/webhooks/1/x"), "message": message,
            "retry_policy": {"max_retries": 3}}},
        "c": {"name": "C", "trigger_type": "webhook", "config": {
            "url": plain("https://hooks.example/x"), "method": "PUT", "secret": plain("s"),
            "headers": {"X": "y"}, "message": message}},
        "d": {"name": "D", "trigger_type": "email", "config": {
            "host": "smtp.example", "port": 465, "username": plain("u"), "password": plain("p"),
            "sender": "a@b.example", "recipients": ["c@d.example"], "message": message}},
        "e": {"name": "E", "trigger_type": "telegram", "config": {
            "token": {"type": "environment", "value": "TG_TOKEN"}, "chat_id": "1"}},
        "f": {"name": "F", "trigger_type": "slack", "config": {
            "slack_url": {"type": "hashicorp_cloud_vault", "value": "slack"}}},
        "g": {"name": "G", "trigger_type": "telegram", "config": {
            "token": plain("1:x"), "chat_id": "@group"}},
        "h": {"name": "H", "trigger_type": "pager", "config": {}}
    });
    let got = import(&network(), &json!({"name": "none"}), &triggers);
    let requests: Vec<_> = got.channels.values().map(|channel| channel.request.clone()).collect();
    assert_eq!(
        requests,
        [
            json!({"kind": "slack", "url": "https://hooks.slack.com/services/A/B/C", "name": "A"}),
            json!({"kind": "discord", "url": "https://discord.com/api/webhooks/1/x", "name": "B"}),
            json!({"kind": "webhook", "url": "https://hooks.example/x", "name": "C"}),
            json!({"kind": "email", "to": ["c@d.example"], "name": "D"}),
            json!({"kind": "telegram", "token": "1:x", "name": "G"}),
        ]
    );
    has(&got, Effect::Changed, "`retry_policy`");
    has(&got, Effect::Changed, "not by PUT");
    has(&got, Effect::Changed, "Standard Webhooks");
    has(&got, Effect::Manual, "a new one is made");
    has(&got, Effect::Dropped, "`headers` has no equivalent");
    has(&got, Effect::Manual, "the mail server");
    has(&got, Effect::Manual, "environment variable TG_TOKEN");
    has(&got, Effect::Manual, "`hashicorp_cloud_vault`");
    has(&got, Effect::Manual, "link it by /start");
    has(&got, Effect::Dropped, "triggers of type `pager`");
}

#[test]
fn transactions_of_addresses_match_by_sender_or_recipient() {
    let mut wanted = monitor();
    wanted["match_conditions"] = json!({"functions": [], "events": [], "transactions": [
        {"status": "Failure", "expression": null},
        {"status": "Any", "expression": "value > 1000000000000000000 OR gas_used >= 21000"}]});
    let got = import(&network(), &wanted, &triggers());
    let lower = USDC.to_ascii_lowercase();
    assert_eq!(
        got.rules[0].document.condition,
        format!(
            "(tx.from in [\"{lower}\"] || tx.to in [\"{lower}\"]) && ((!tx.status) || ((tx.value > \
             1000000000000000000 || tx.gasUsed >= 21000)))"
        )
    );
    has(&got, Effect::Changed, "those that only emit a log");

    wanted["addresses"] = json!([]);
    wanted["match_conditions"]["transactions"] = json!([]);
    let got = import(&network(), &wanted, &triggers());
    assert_eq!(got.rules[0].document.condition, "");
    assert_eq!(got.rules[0].document.name, "Mint USDC Token");

    wanted["match_conditions"]["transactions"] =
        json!([{"status": "Any", "expression": "gas_price > 5"}]);
    let got = import(&network(), &wanted, &triggers());
    assert_eq!(got.rules, []);
    has(&got, Effect::Dropped, "`gas_price` of a transaction has no equivalent");
}

#[test]
fn networks_and_declarations_make_a_rule_each() {
    let mut nft = transfer_abi();
    nft[0]["inputs"][2]["indexed"] = true.into();
    let mut wanted = monitor();
    let other = "0x0000000000000000000000000000000000000001";
    wanted["addresses"] = json!([
        {"address": USDC.to_ascii_uppercase().replace("0X", "0x"), "contract_spec": transfer_abi()},
        {"address": other, "contract_spec": nft},
        {"address": "0x12", "contract_spec": []}]);
    wanted["match_conditions"] =
        json!({"events": [{"signature": "Transfer(address,address,uint)"}]});
    wanted["triggers"] = json!([]);
    let got = import(&network(), &wanted, &json!({}));
    assert_eq!(got.rules.len(), 2);
    has(&got, Effect::Dropped, "address `0x12`: an address has 40 hex digits");
    assert_eq!(got.rules[0].document.template, None);
}

fn arguments() -> Vec<Argument> {
    let plain = |name: &str, ty: &str| Argument {
        name: name.to_owned(),
        ty: ty.to_owned(),
        members: Vec::new(),
    };
    let order = vec![plain("maker", "address"), plain("sizes", "uint256[]")];
    vec![
        plain("value", "uint256"),
        plain("delta", "int256"),
        plain("who", "address"),
        plain("on", "bool"),
        plain("note", "string"),
        plain("tag", "bytes4"),
        plain("ids", "uint256[]"),
        Argument { members: order.clone(), ..plain("order", "tuple") },
        Argument { members: order, ..plain("orders", "tuple[2]") },
    ]
}

#[test]
fn expressions_become_conditions() {
    let arguments = arguments();
    for (source, condition) in [
        ("value>1", "args.value > 1"),
        ("value >= 0x10 or delta < -5", "args.value >= 0x10 || args.delta < -5"),
        (
            "(value > 1 AND on == true) OR on != FALSE",
            "(args.value > 1 && args.on == true) || args.on != false",
        ),
        (
            "who == 0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
            "args.who == \"0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48\"",
        ),
        ("note == 'a \"b\" AND c'", "args.note == \"a \\\"b\\\" AND c\""),
        (
            "note starts_with 'x' AND note ENDS_WITH \"y\"",
            "args.note.startsWith(\"x\") && args.note.endsWith(\"y\")",
        ),
        ("tag contains 0xAB", "args.tag.contains(\"0xab\")"),
        ("ids contains 7 AND ids[0] == 5", "7 in args.ids && args.ids[0] == 5"),
        (
            "order.sizes[1] > 3 AND order['maker'] == 0x00",
            "args.order.sizes[1] > 3 && args.order.maker == \"0x00\"",
        ),
        (
            "orders[1].sizes[0] == 1 AND order[1][0] == 2",
            "args.orders[1].sizes[0] == 1 && args.order.sizes[0] == 2",
        ),
    ] {
        assert_eq!(translate(source, Names::Arguments(&arguments)).unwrap(), condition, "{source}");
    }
    for (source, reason) in [
        ("nobody > 1", "no argument is called `nobody`"),
        ("value > 1.5", "`1.5` is no uint256"),
        ("who contains 0x12", "`contains` on address has no equivalent"),
        ("value starts_with 1", "has no equivalent"),
        ("note == 'open", "a text is not closed"),
        ("value", "no operator follows"),
        ("value >", "no value follows"),
        ("> 5", "no name stands before"),
        ("'x' == 'x'", "stands where a name should"),
        ("ids[x] == 1", "has no `x`"),
        ("order.taker == 0x00", "has no `taker`"),
        ("order == 1", "values of type tuple"),
        ("value.x == 1", "has no `x`"),
    ] {
        let error = translate(source, Names::Arguments(&arguments)).unwrap_err();
        assert!(error.contains(reason), "{source}: {error}");
    }
}

proptest! {
    #[test]
    fn no_expression_panics(source in "[ a-z0-9.\\[\\]()'\"=!<>$\\\\]{0,60}|\\PC{0,30}") {
        for names in [Names::Transaction, Names::Arguments(&arguments())] {
            translate(&source, names).ok();
        }
    }

    #[test]
    fn no_file_panics(text in "\\PC{0,80}", part in 0_usize..12) {
        let (mut network, mut monitor, mut triggers) = (network(), monitor(), triggers());
        let value = Value::String(text.clone());
        match part {
            0 => network["slug"] = value,
            1 => network["name"] = value,
            2 => monitor["name"] = value,
            3 => monitor["addresses"][0]["address"] = value,
            4 => monitor["match_conditions"]["events"][0]["signature"] = value,
            5 => monitor["match_conditions"]["events"][0]["expression"] = value,
            6 => monitor["addresses"][0]["contract_spec"][0]["name"] = value,
            7 => monitor["addresses"][0]["contract_spec"][0]["inputs"][0]["type"] = value,
            8 => triggers["evm_large_transfer_usdc_telegram"]["config"]["message"]["body"] = value,
            9 => triggers["evm_large_transfer_usdc_telegram"]["config"]["chat_id"] = value,
            10 => monitor["match_conditions"] = value,
            _ => triggers["evm_large_transfer_usdc_telegram"] = value,
        }
        import(&network, &monitor, &triggers);
        let raw = OzFiles { monitors: vec![("m".to_owned(), text)], ..OzFiles::default() };
        import_oz(&raw, &|_| None);
    }
}
