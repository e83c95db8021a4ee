//! Cases for `abi`.

use super::*;

const ERC20: &str = r#"[
    {"type":"event","name":"Transfer","anonymous":false,"inputs":[
        {"name":"from","type":"address","indexed":true},
        {"name":"to","type":"address","indexed":true},
        {"name":"value","type":"uint256","indexed":false}]},
    {"type":"function","name":"transfer","stateMutability":"nonpayable","outputs":[],"inputs":[
        {"name":"to","type":"address"},{"name":"value","type":"uint256"}]},
    {"type":"constructor","stateMutability":"nonpayable","inputs":[]},
    {"type":"receive","stateMutability":"payable"},
    {"type":"error","name":"Broke","inputs":[]}
]"#;

fn error(text: &str) -> String {
    Abi::parse(text).unwrap_err().to_string()
}

#[test]
fn the_forms_that_tools_write_give_the_same_abi() {
    let plain = Abi::parse(ERC20).unwrap();
    let artifact = Abi::parse(&format!(r#"{{"contractName":"T","abi":{ERC20}}}"#)).unwrap();
    let text = Abi::parse(
        r#"["event Transfer(address indexed from, address indexed to, uint value)",
            "function transfer(address to, uint256 value)"]"#,
    )
    .unwrap();
    assert_eq!(plain, artifact);
    assert_eq!(plain, text);
    let event = plain.event("Transfer").unwrap();
    assert_eq!(
        event.topic0.to_string(),
        "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    );
    assert_eq!(plain.function("transfer").unwrap().selector, [0xa9, 0x05, 0x9c, 0xbb]);
}

#[test]
fn an_error_names_the_entry_and_the_argument() {
    let cases = [
        ("", "the ABI is not a JSON array of entries, nor an object with an `abi` member: EOF"),
        ("7", "it is neither array nor object"),
        ("{}", "the object has no `abi` member"),
        (r#"{"abi":7}"#, "its `abi` member is not an array"),
        (r#"[7]"#, "entry 0 of the ABI (neither type nor name): "),
        (
            r#"["event A()", {"type":"event","name":"B","anonymous":false,"inputs":
                [{"name":"x","type":"uint257","indexed":false}]}]"#,
            "entry 1 of the ABI (event B): ",
        ),
        (
            r#"[{"type":"event","name":"B","anonymous":false,"inputs":
                [{"name":"x","type":"uint7","indexed":false}]}]"#,
            "argument `x`: `uint7` is not a type of the ABI",
        ),
        (
            r#"[{"type":"event","name":"B","anonymous":false,"inputs":
                [{"name":"x","type":"uint8[99999999999]","indexed":false}]}]"#,
            "argument `x`: `uint8[99999999999]` takes more than 4096 words",
        ),
        (
            r#"[{"type":"event","name":"B","anonymous":false,"inputs":
                [{"name":"x","type":"uint8[0]","indexed":false}]}]"#,
            "entry 0 of the ABI (event B): invalid value: string \"uint8[0]\"",
        ),
        (
            r#"["event A(uint indexed a, uint indexed b, uint indexed c, uint indexed d)"]"#,
            "4 arguments are indexed, at most 3 can be",
        ),
        (r#"["evnt A()"]"#, "entry 0 of the ABI (evnt A()): "),
        (r#"[{"type":"event"}]"#, "entry 0 of the ABI (event): "),
    ];
    for (text, expected) in cases {
        let found = error(text);
        assert!(found.contains(expected), "{text}\n{found}");
        assert!(!found.contains('\n'), "{found}");
    }
}

#[test]
fn limits_are_named() {
    let big = " ".repeat(MAX_ABI_BYTES + 1);
    assert!(error(&big).contains("the limit is 2097152"));
    let many = format!("[{}]", vec![r#""event A()""#; MAX_ENTRIES + 1].join(","));
    assert!(error(&many).contains("has 4097 entries, the limit is 4096"));
    let wide = vec!["uint256"; MAX_PARAMS + 1].join(",");
    assert!(error(&format!(r#"["function f({wide})"]"#)).contains("more than 64 arguments"));
    let deep = format!(r#"["function f(uint8{})"]"#, "[]".repeat(20));
    assert!(error(&deep).contains("nested deeper than 16"), "{}", error(&deep));
    let mut nested = r#"{"name":"x","type":"uint8"}"#.to_owned();
    for _ in 0..40 {
        nested = format!(r#"{{"name":"x","type":"tuple","components":[{nested}]}}"#);
    }
    let deep = format!(
        r#"[{{"type":"function","name":"f","stateMutability":"view","outputs":[],
        "inputs":[{nested}]}}]"#
    );
    assert!(error(&deep).contains("nested deeper than 16"), "{}", error(&deep));
}

#[test]
fn names_signatures_and_overloads_are_found() {
    let abi = Abi::parse(
        r#"["event Sent(address to)", "event Sent(address to, uint256 value)",
            "event Received(uint256)", "function send(uint256)", "function send(int256)"]"#,
    )
    .unwrap();
    let signature = |asked: &str| abi.event(asked).map(|event| event.signature.clone());
    assert_eq!(signature("Sent( address , uint )").unwrap(), "Sent(address,uint256)");
    assert_eq!(signature("Sent(address indexed to)").unwrap(), "Sent(address)");
    assert_eq!(signature("Received").unwrap(), "Received(uint256)");
    assert_eq!(
        signature("Sent").unwrap_err().to_string(),
        "the ABI has 2 events named `Sent`; give the full signature, one of `Sent(address)`, \
         `Sent(address,uint256)`"
    );
    assert_eq!(
        signature("Recieved").unwrap_err().to_string(),
        "the ABI has no event `Recieved`; the nearest are `Received(uint256)`"
    );
    assert_eq!(
        signature("Received(address)").unwrap_err().to_string(),
        "the ABI has no event `Received(address)`; the nearest are `Received(uint256)`"
    );
    assert!(matches!(abi.function("send"), Err(AbiError::Ambiguous { .. })));
}

#[test]
fn arguments_without_a_name_or_with_one_twice_get_their_own() {
    let abi = Abi::parse(r#"["event A(uint256, uint256 x, uint256 x, uint256 arg3)"]"#).unwrap();
    let names: Vec<_> = abi.events()[0].params.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["arg0", "x", "x_2", "arg3"]);
}

#[test]
fn lines_are_an_abi_too() {
    let text = "\n// a token\n  event Transfer(address indexed from, address indexed to, uint256 value);\n\nfunction transfer(address to, uint256 value)\n";
    let abi = Abi::parse(text).unwrap();
    assert_eq!(abi.events()[0].signature, "Transfer(address,address,uint256)");
    assert_eq!(abi.functions()[0].signature, "transfer(address,uint256)");
    let wrong = error("event A()\nhello");
    assert!(wrong.contains("entry 1 of the ABI (hello)"), "{wrong}");
    for no_abi in ["", "hello", "// event A()", "eventful"] {
        assert!(error(no_abi).contains("not a JSON array"), "{no_abi}");
    }
}

#[test]
fn one_entry_stands_alone() {
    let json = r#"{"abi": [
        {"type":"constructor","inputs":[]},
        {"type":"event","name":"Moved","anonymous":false,
         "inputs":[{"name":"a","type":"uint256","indexed":true}]},
        {"type":"event","name":"Moved","anonymous":false,
         "inputs":[{"name":"a","type":"address","indexed":true}]},
        {"type":"function","name":"move","stateMutability":"view","outputs":[],
         "inputs":[{"name":"to","type":"address"}]}
    ]}"#;
    let lines = "event Sent(uint256 value)\nfunction send(uint256 value)\nerror Bad()";
    for (text, event, function) in
        [(json, "Moved(address)", "move"), (lines, "Sent", "send(uint256)")]
    {
        let whole = Abi::parse(text).unwrap();
        let alone = Abi::parse(&Abi::event_alone(text, event).unwrap()).unwrap();
        assert_eq!((alone.events().len(), alone.functions().len()), (1, 0));
        assert_eq!(alone.event(event).unwrap(), whole.event(event).unwrap());
        let alone = Abi::parse(&Abi::function_alone(text, function).unwrap()).unwrap();
        assert_eq!((alone.events().len(), alone.functions().len()), (0, 1));
        assert_eq!(alone.function(function).unwrap(), whole.function(function).unwrap());
    }
    for (text, event) in [(json, "Moved"), (json, "Gone"), ("{}", "Moved")] {
        assert_eq!(
            Abi::event_alone(text, event).unwrap_err(),
            Abi::parse(text).and_then(|abi| abi.event(event).cloned()).unwrap_err()
        );
    }
}

#[test]
fn long_names_are_not_compared_with_what_is_not_found() {
    let long = "x".repeat(500_000);
    let abi = format!("[\"event {long}()\", \"event Transfer()\"]");
    let abi = Abi::parse(&abi).unwrap();
    let error = abi.event("Tranfser").unwrap_err().to_string();
    assert_eq!(error, "the ABI has no event `Tranfser`; the nearest are `Transfer()`");
    let wrong = abi.event(&format!("{long}y")).unwrap_err().to_string();
    assert!(wrong.len() < 300 && wrong.starts_with("the ABI has no event `xxx"), "{wrong}");
    assert_eq!(abi.event(&long).unwrap().name.len(), long.len(), "what is there is found");
}
