//! Cases for `syntax`.

use proptest::prelude::*;

use super::*;

fn shown(source: &str) -> String {
    parse(source).map_or_else(|fault| format!("fault {}", fault.reason), |node| sexpr(&node))
}

/// The tree as cel's own parser names it, so that the two can be compared as text.
fn sexpr(node: &Node) -> String {
    let join = |nodes: &[Node]| nodes.iter().map(sexpr).collect::<Vec<_>>().join(" ");
    match &node.kind {
        NodeKind::Bool(value) => value.to_string(),
        NodeKind::Number(value) => value.to_string(),
        NodeKind::Text(text) => format!("{text:?}"),
        NodeKind::Bytes(bytes) => format!("b{bytes:?}"),
        NodeKind::Null => "null".to_owned(),
        NodeKind::Name(name) => name.clone(),
        NodeKind::Select { of, member, .. } => format!("(. {} {member})", sexpr(of)),
        NodeKind::Index { of, index } => format!("(_[_] {} {})", sexpr(of), sexpr(index)),
        NodeKind::Call { target: None, name, arguments, .. } => {
            format!("({name} {})", join(arguments))
        }
        NodeKind::Call { target: Some(target), name, arguments, .. } => {
            format!("(.{name} {} {})", sexpr(target), join(arguments))
        }
        NodeKind::List(items) => format!("[{}]", join(items)),
        NodeKind::Not(of) => format!("(!_ {})", sexpr(of)),
        NodeKind::Negate(of) => format!("(-_ {})", sexpr(of)),
        NodeKind::Compare { op, left, right } => {
            let name = match op {
                CompareOp::Equal => "_==_",
                CompareOp::NotEqual => "_!=_",
                CompareOp::Less => "_<_",
                CompareOp::LessOrEqual => "_<=_",
                CompareOp::Greater => "_>_",
                CompareOp::GreaterOrEqual => "_>=_",
            };
            format!("({name} {} {})", sexpr(left), sexpr(right))
        }
        NodeKind::In { item, list } => format!("(@in {} {})", sexpr(item), sexpr(list)),
        NodeKind::Arithmetic { op, left, right } => {
            let name = match op {
                ArithmeticOp::Add => "_+_",
                ArithmeticOp::Subtract => "_-_",
                ArithmeticOp::Multiply => "_*_",
                ArithmeticOp::Divide => "_/_",
                ArithmeticOp::Remainder => "_%_",
            };
            format!("({name} {} {})", sexpr(left), sexpr(right))
        }
        NodeKind::All(nodes) => format!("(_&&_ {})", join(nodes)),
        NodeKind::Any(nodes) => format!("(_||_ {})", join(nodes)),
        NodeKind::Choice { condition, yes, no } => {
            format!("(_?_:_ {} {} {})", sexpr(condition), sexpr(yes), sexpr(no))
        }
    }
}

#[test]
fn precedence_is_that_of_cel() {
    for (source, expected) in [
        ("a && b || !c", "(_||_ (_&&_ a b) (!_ c))"),
        ("1 + 2 * 3 - 4", "(_-_ (_+_ 1 (_*_ 2 3)) 4)"),
        ("a == b && c in [1, 2,]", "(_&&_ (_==_ a b) (@in c [1 2]))"),
        ("-x * 2 > 0x10u", "(_>_ (_*_ (-_ x) 2) 16)"),
        ("a ? b : c ? d : e", "(_?_:_ a b (_?_:_ c d e))"),
        ("tx.from.size() == size(x[1].y)", "(_==_ (.size (. tx from) ) (size (. (_[_] x 1) y)))"),
        ("'a\\'b' == r\"\\n\" // said\n && b", "(_&&_ (_==_ \"a'b\" \"\\\\n\") b)"),
        ("b'\\xff' != null", "(_!=_ b[255] null)"),
        ("(a || b) && (c)", "(_&&_ (_||_ a b) c)"),
    ] {
        assert_eq!(shown(source), expected);
    }
}

#[test]
fn numbers_reach_2_256_and_no_further() {
    let max = U256::MAX;
    assert_eq!(shown(&format!("{max}")), max.to_string());
    assert_eq!(shown(&format!("{max:#x}")), max.to_string());
    for over in [format!("{max}0"), format!("0x1{}", "0".repeat(64)), "9".repeat(60_000)] {
        assert!(shown(&over).contains("above 2^256 - 1"), "{over}");
    }
    for odd in ["1.5", "1e6", "1_000", "0x", "12abc"] {
        assert!(shown(odd).starts_with("fault"), "{odd}");
    }
}

#[test]
fn limits_hold_before_they_cost() {
    let started = std::time::Instant::now();
    for (source, expected) in [
        ("a".repeat(1_000_000), "has 1000000 bytes, the limit is 65536"),
        ("(".repeat(60_000), "nested deeper than 40"),
        ("!".repeat(60_000), "nested deeper than 40"),
        ("-".repeat(60_000), "nested deeper than 40"),
        ("[".repeat(60_000), "nested deeper than 40"),
        (format!("a{}", ".a".repeat(30_000)), "nested deeper than 40"),
        (format!("1{}", "+1".repeat(30_000)), "nested deeper than 40"),
        (format!("a{}", "==a".repeat(20_000)), "nested deeper than 40"),
        (format!("a{}", "?a:a".repeat(10_000)), "nested deeper than 40"),
        (format!("a{}", "||a".repeat(20_000)), "more than 2048 parts"),
        (format!("a in [{}]", "1,".repeat(10_001)), "more than 10000 items"),
    ] {
        assert!(shown(&source).contains(expected), "{}", shown(&source));
    }
    assert!(started.elapsed().as_secs() < 5);
    assert!(parse(&format!("a in [{}]", "1,".repeat(10_000))).is_ok());
}

fn cel_sexpr(expr: &cel::IdedExpr) -> String {
    use cel::common::ast::{Expr, LiteralValue};
    let join = |all: &[cel::IdedExpr]| all.iter().map(cel_sexpr).collect::<Vec<_>>().join(" ");
    match &expr.expr {
        Expr::Call(call) => match &call.target {
            Some(target) => {
                format!("(.{} {} {})", call.func_name, cel_sexpr(target), join(&call.args))
            }
            None => format!("({} {})", call.func_name, join(&call.args)),
        },
        Expr::Ident(name) => name.clone(),
        Expr::List(list) => format!("[{}]", join(&list.elements)),
        Expr::Select(select) => format!("(. {} {})", cel_sexpr(&select.operand), select.field),
        Expr::Literal(LiteralValue::Int(value)) => value.inner().to_string(),
        Expr::Literal(LiteralValue::Boolean(value)) => value.inner().to_string(),
        Expr::Literal(LiteralValue::String(value)) => format!("{:?}", value.inner()),
        other => panic!("{other:?}"),
    }
}

/// Turns our flat chains into the nested pairs that cel builds.
fn without_chains(text: &str) -> String {
    let tokens = text.replace('(', " ( ").replace(')', " ) ");
    tokens.split_whitespace().filter(|t| !matches!(*t, "(" | ")" | "_&&_" | "_||_")).collect()
}

fn source_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("a".to_owned()),
        Just("tx.from".to_owned()),
        Just("'x'".to_owned()),
        Just("true".to_owned()),
        (0u32..100).prop_map(|n| n.to_string()),
        Just("f(a, 1)".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let ops = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||",
        ]);
        prop_oneof![
            (inner.clone(), ops, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            inner.clone().prop_map(|a| format!("!({a})")),
            inner.clone().prop_map(|a| format!("({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) in [{b}]")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_tree_is_the_one_that_cel_builds(source in source_text()) {
        let ours = parse(&source);
        let theirs = cel::parser::Parser::default().parse(&source);
        if let Ok(ours) = &ours {
            let theirs = theirs.expect("cel parses what we parse");
            prop_assert_eq!(without_chains(&sexpr(ours)), without_chains(&cel_sexpr(&theirs)));
        } else {
            prop_assert!(theirs.is_err() || source.len() > 200, "{source}: {ours:?}");
        }
    }

    #[test]
    fn random_text_never_panics(source in "\\PC{0,80}") {
        if let Err(fault) = parse(&source) {
            prop_assert!(source.get(fault.span.start..fault.span.end).is_some());
        }
    }

    #[test]
    fn random_tokens_never_panic(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "a", ".", "(", ")", "[", "]", "1", "0x", "'", "\"", "\\", "&&", "||", "!", "-",
                "?", ":", ",", "in", "==", "<", "é", "\u{202e}", "\0", "//", "\n", "u", "r'", "{",
            ]),
            0..40,
        ),
    ) {
        let source = words.concat();
        if let Err(fault) = parse(&source) {
            prop_assert!(fault.span.start <= fault.span.end && fault.span.end <= source.len());
            prop_assert!(source.get(fault.span.start..fault.span.end).is_some());
        }
    }
}
