//! Expressions of monitors as conditions: `value > 10 AND to == 0x…` → `args.value > 10 && …`.
//!
//! The order of `AND` and `OR` is the same in both languages, so words are translated one after the
//! other; the compiler of conditions checks the whole afterwards.

use super::spelled::Argument;

/// What names of an expression mean.
#[derive(Debug, Clone, Copy)]
pub(super) enum Names<'a> {
    /// Arguments of an event or a function.
    Arguments(&'a [Argument]),
    /// Values of a transaction.
    Transaction,
}

/// Values of a transaction: their name there, here, and their type.
const TRANSACTION: [(&str, &str, &str); 7] = [
    ("value", "tx.value", "uint256"),
    ("from", "tx.from", "address"),
    ("to", "tx.to", "address"),
    ("hash", "tx.hash", "bytes32"),
    ("nonce", "tx.nonce", "uint256"),
    ("input", "tx.input", "bytes"),
    ("gas_used", "tx.gasUsed", "uint256"),
];

/// An expression in the language of conditions, or why it has no equivalent.
pub(super) fn translate(source: &str, names: Names<'_>) -> Result<String, String> {
    let mut words = words(source)?.into_iter().peekable();
    let mut out = Vec::new();
    while let Some(word) = words.next() {
        match word {
            Word::Open => out.push("(".to_owned()),
            Word::Close => out.push(")".to_owned()),
            Word::Plain(word) if word.eq_ignore_ascii_case("and") => out.push("&&".to_owned()),
            Word::Plain(word) if word.eq_ignore_ascii_case("or") => out.push("||".to_owned()),
            Word::Plain(path) => {
                let (path, argument) = resolve(&path, names)?;
                let operator = match words.next() {
                    Some(Word::Operator(operator)) => operator,
                    Some(Word::Plain(operator)) => operator.to_ascii_lowercase(),
                    _ => return Err(format!("no operator follows `{path}`")),
                };
                let value = match words.next() {
                    Some(Word::Plain(value) | Word::Quoted(value)) => value,
                    _ => return Err(format!("no value follows `{path} {operator}`")),
                };
                out.push(compare(&path, &argument, &operator, &value)?);
            }
            Word::Quoted(text) => return Err(format!("'{text}' stands where a name should")),
            Word::Operator(operator) => return Err(format!("no name stands before `{operator}`")),
        }
    }
    Ok(out.join(" ").replace("( ", "(").replace(" )", ")"))
}

#[derive(Debug, PartialEq, Eq)]
enum Word {
    Open,
    Close,
    Operator(String),
    Quoted(String),
    /// A name with members and indexes, a number, an address, or a word.
    Plain(String),
}

fn words(source: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut characters = source.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            c if c.is_whitespace() => {}
            '(' => words.push(Word::Open),
            ')' => words.push(Word::Close),
            '=' | '!' | '<' | '>' => {
                let mut operator = character.to_string();
                operator.extend(characters.next_if_eq(&'='));
                words.push(Word::Operator(operator));
            }
            '\'' | '"' => words.push(Word::Quoted(quoted(character, &mut characters)?)),
            _ => {
                let mut word = character.to_string();
                let mut depth = usize::from(character == '[');
                // An index may hold a quoted key with anything in it.
                while let Some(next) = characters
                    .next_if(|c| depth > 0 || !(c.is_whitespace() || "()=!<>'\"".contains(*c)))
                {
                    depth = match next {
                        '[' => depth + 1,
                        ']' => depth.saturating_sub(1),
                        _ => depth,
                    };
                    word.push(next);
                }
                words.push(Word::Plain(word));
            }
        }
    }
    Ok(words)
}

fn quoted(quote: char, characters: &mut impl Iterator<Item = char>) -> Result<String, String> {
    let mut text = String::new();
    while let Some(character) = characters.next() {
        match character {
            c if c == quote => return Ok(text),
            '\\' => text.extend(characters.next()),
            other => text.push(other),
        }
    }
    Err(format!("a text is not closed: {quote}{text}"))
}

/// The path here, and what it leads to.
fn resolve(path: &str, names: Names<'_>) -> Result<(String, Argument), String> {
    let mut steps = steps(path)?.into_iter();
    let name = steps.next().unwrap_or_default();
    let (mut out, mut at) = match names {
        Names::Transaction => {
            let found = TRANSACTION.iter().find(|(theirs, ..)| *theirs == name);
            let Some((_, ours, ty)) = found else {
                return Err(format!("`{name}` of a transaction has no equivalent"));
            };
            let argument =
                Argument { name: name.clone(), ty: (*ty).to_owned(), members: Vec::new() };
            ((*ours).to_owned(), argument)
        }
        Names::Arguments(arguments) => {
            let found = arguments.iter().find(|argument| argument.name == name);
            let Some(argument) = found else {
                return Err(format!("no argument is called `{name}`"));
            };
            (format!("args.{name}"), argument.clone())
        }
    };
    for step in steps {
        let no_member = || format!("`{path}`: {} has no `{step}`", at.ty);
        if let Some(item) = at.item() {
            let index: u32 = step.parse().map_err(|_| no_member())?;
            out = format!("{out}[{index}]");
            at = item;
        } else {
            let member = at.member(&step).cloned().ok_or_else(no_member)?;
            out = format!("{out}.{}", member.name);
            at = member;
        }
    }
    Ok((out, at))
}

/// `a.b[0]['c']` → a, b, 0, c
fn steps(path: &str) -> Result<Vec<String>, String> {
    let mut steps = Vec::new();
    let mut step = String::new();
    for character in path.chars() {
        match character {
            '.' | '[' | ']' => {
                if !step.is_empty() {
                    steps.push(std::mem::take(&mut step));
                }
            }
            '\'' | '"' => {}
            other => step.push(other),
        }
    }
    if !step.is_empty() {
        steps.push(step);
    }
    let plain = |step: &String| step.chars().all(|c| c.is_alphanumeric() || c == '_');
    if steps.is_empty() || !steps.iter().all(plain) {
        return Err(format!("`{path}` is not a name"));
    }
    Ok(steps)
}

fn compare(path: &str, at: &Argument, operator: &str, value: &str) -> Result<String, String> {
    let unknown = || format!("`{operator}` on {} has no equivalent", at.ty);
    if let Some(item) = at.item() {
        return match operator {
            "contains" => Ok(format!("{} in {path}", literal(&item, value)?)),
            _ => Err(unknown()),
        };
    }
    let value = literal(at, value)?;
    let text = at.ty == "string" || at.ty.starts_with("bytes");
    match operator {
        "==" | "!=" | ">" | ">=" | "<" | "<=" => Ok(format!("{path} {operator} {value}")),
        "starts_with" if text => Ok(format!("{path}.startsWith({value})")),
        "ends_with" if text => Ok(format!("{path}.endsWith({value})")),
        "contains" if text => Ok(format!("{path}.contains({value})")),
        _ => Err(unknown()),
    }
}

/// A value as the type that it meets writes it.
fn literal(at: &Argument, value: &str) -> Result<String, String> {
    let wrong = || format!("`{value}` is no {}", at.ty);
    match at.ty.as_str() {
        ty if ty.starts_with("uint") || ty.starts_with("int") => {
            let digits = value.strip_prefix('-').unwrap_or(value);
            let hex = digits
                .strip_prefix("0x")
                .is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_hexdigit()));
            let decimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            if hex || decimal { Ok(value.to_owned()) } else { Err(wrong()) }
        }
        "bool" => match value.to_ascii_lowercase().as_str() {
            "true" => Ok("true".to_owned()),
            "false" => Ok("false".to_owned()),
            _ => Err(wrong()),
        },
        "string" => Ok(string(value)),
        ty if ty == "address" || ty.starts_with("bytes") => {
            let digits = value.strip_prefix("0x").unwrap_or(value).to_ascii_lowercase();
            if digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                Ok(format!("\"0x{digits}\""))
            } else {
                Err(wrong())
            }
        }
        _ => Err(format!("values of type {} have no equivalent", at.ty)),
    }
}

fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
