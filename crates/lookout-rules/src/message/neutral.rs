//! Text that cannot deceive: without control characters, hidden characters, reversals and links.

/// Characters read behind the last one shown, to see whether a dot there belongs to a domain.
const LOOK_AHEAD: usize = 64;

/// Combining marks in a row; more pile up over the lines above.
const MAX_MARKS: usize = 3;

/// A rule owner's own text: links may stay, what is invisible may not.
pub(super) fn own_text(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\t') || !is_hidden(*c)).collect()
}

/// Text from a chain: one line, nothing hidden, nothing that a channel makes a link or mention of.
pub(super) fn chain_text(text: &str, max_chars: usize) -> String {
    let mut clean = String::new();
    let mut marks = 0;
    let characters: Vec<char> = text.chars().take(max_chars + LOOK_AHEAD).collect();
    for (at, character) in characters.iter().copied().enumerate() {
        if at >= max_chars {
            clean.push('…');
            break;
        }
        marks = if is_mark(character) { marks + 1 } else { 0 };
        if marks > MAX_MARKS {
            continue;
        }
        let before = at.checked_sub(1).and_then(|at| characters.get(at)).copied();
        match character {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' | '\u{85}' => clean.push(' '),
            hidden if is_hidden(hidden) => clean.push('\u{fffd}'),
            '.' | '。' | '．' | '｡'
                if before.is_some_and(char::is_alphanumeric)
                    && is_domain_end(characters.get(at + 1..).unwrap_or_default()) =>
            {
                clean.push_str("[.]");
            }
            ':' if characters.get(at + 1..at + 3) == Some(&['/', '/']) => clean.push_str("[:]"),
            '@' => clean.push_str("[@]"),
            visible => clean.push(visible),
        }
    }
    clean
}

/// Whether a dot in front makes a domain: two letters or more follow.
fn is_domain_end(rest: &[char]) -> bool {
    rest.iter().take(2).filter(|c| c.is_alphabetic()).count() == 2
        // Or digits, a dot, letters: the dot of `a.1.com` has one behind it that counts.
        || rest.first().is_some_and(|c| c.is_ascii_digit() || *c == '-')
            && rest.iter().take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '.')).any(|c| *c == '.')
}

fn is_mark(character: char) -> bool {
    matches!(character,
        '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Control characters, direction marks, and what takes no space.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}
