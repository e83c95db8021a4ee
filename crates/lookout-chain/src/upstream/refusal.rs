//! How providers refuse a range of blocks that is too wide for them, in their own words.

use crate::NodeError;

/// Message parts by which nodes and providers refuse a range; each seen in one's answers.
const REFUSALS: [&str; 23] = [
    "block range",
    "blocks range",
    "max range",
    "maximum range",
    "range limit",
    "range too large",
    "range is too large",
    "ranges over",
    "is limited to",
    "too many blocks",
    "number of requested blocks",
    "exceeds limit of",
    "query exceeds",
    "query returned more than",
    "query timeout exceeded",
    "max results",
    "too many results",
    "too many logs",
    "response size",
    "response too large",
    "response is too big",
    "result too large",
    "backend response too large",
];

/// Messages with such a part that say something else: the node is behind, or the range is none.
const NOT_REFUSALS: [&str; 3] =
    ["beyond current head", "invalid block range", "after last accepted block"];

/// Words behind a number that make it a number of something else than blocks.
const OTHER_UNITS: [&str; 9] =
    ["results", "logs", "log", "records", "items", "entries", "addresses", "topics", "requests"];

/// Words before a number that make it a limit on blocks, if no unit follows.
const LIMITS: [&str; 9] =
    ["range", "blocks", "limit", "limited", "maximum", "max", "set", "over", "than"];

/// How many words before a number are looked at.
const WORDS_BEFORE: usize = 3;

/// A provider's word on a range that is too wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Refusal {
    /// Blocks of a range that it says would work for this question.
    suggested: Option<u64>,
    /// The most blocks that it ever takes.
    pub(crate) stated: Option<u64>,
}

impl Refusal {
    /// How many blocks would pass instead of `asked`, where it was said.
    pub(crate) fn blocks_below(self, asked: u64) -> Option<u64> {
        let fits = |blocks: &u64| *blocks < asked;
        self.suggested.filter(fits).or(self.stated.filter(fits))
    }
}

/// The refusal of a range that the error is, if it is one.
pub(crate) fn range_refusal(error: &NodeError) -> Option<Refusal> {
    let text = error.message.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if !says(&REFUSALS) || says(&NOT_REFUSALS) {
        return None;
    }
    // Otherwise its numbers count results or bytes.
    let about_blocks = text.contains("block") || text.contains("range");
    let stated = about_blocks.then(|| stated(&text)).flatten();
    Some(Refusal { suggested: bracketed(&text).or_else(|| dashed(&text)), stated })
}

/// `[0x1180fca, 0x1180fd3]`, as Alchemy and Infura suggest ranges.
fn bracketed(text: &str) -> Option<u64> {
    let number = |text: &str| u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok();
    let inside = text.split('[').skip(1).filter_map(|rest| rest.split_once(']'));
    inside
        .filter_map(|(inside, _)| inside.split_once(','))
        .find_map(|(from, to)| number(to)?.checked_sub(number(from)?)?.checked_add(1))
}

/// `24383075-24383096`, as reth suggests ranges.
fn dashed(text: &str) -> Option<u64> {
    let words = text.split_whitespace().filter_map(|word| word.split_once('-'));
    words.into_iter().find_map(|(from, to)| {
        let to = to.trim_end_matches(['.', ',']);
        to.parse::<u64>().ok()?.checked_sub(from.parse().ok()?)?.checked_add(1)
    })
}

/// The smallest number in the text that limits blocks.
fn stated(text: &str) -> Option<u64> {
    let divides = |c: char| c.is_whitespace() || matches!(c, ':' | ';' | '(' | ')' | '=');
    let words: Vec<&str> = text
        .split(divides)
        .map(|word| word.trim_matches(['.', ',', '"', '\'']))
        .filter(|word| !word.is_empty())
        .collect();
    let limits = |at: usize| {
        let behind = words.get(at + 1).copied().unwrap_or("");
        let before = &words[at.saturating_sub(WORDS_BEFORE)..at];
        if OTHER_UNITS.contains(&behind) || before.last().is_some_and(|w| OTHER_UNITS.contains(w)) {
            return false;
        }
        matches!(behind, "block" | "blocks" | "range")
            || before.iter().any(|word| LIMITS.contains(word))
    };
    let numbers = words.iter().enumerate().filter_map(|(at, word)| Some((at, number(word)?)));
    numbers.filter(|(at, n)| *n > 0 && limits(*at)).map(|(_, n)| n).min()
}

/// `10000`, `10,000` or `2k`.
fn number(word: &str) -> Option<u64> {
    let digits = word.replace(',', "");
    match digits.strip_suffix('k') {
        Some(thousands) => thousands.parse::<u64>().ok()?.checked_mul(1000),
        None => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a range of 20,000 blocks should be narrowed to.
    #[track_caller]
    fn check(code: i64, message: &str, expected: Option<Option<u64>>) {
        let raw = serde_json::value::RawValue::from_string("{}".into()).unwrap();
        let error = NodeError { code, message: message.into(), raw };
        let refusal = range_refusal(&error).map(|refusal| refusal.blocks_below(20_000));
        assert_eq!(refusal, expected, "{message}");
    }

    #[test]
    fn ranges_that_a_provider_suggests_are_taken() {
        check(
            -32602,
            "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on the response size, or you can request any block range with a cap of 10K logs in the response. Based on your parameters and the response size limit, this block range should work: [0x0, 0x133e71]",
            Some(Some(2000)),
        );
        check(
            -32602,
            "Log response size exceeded. You can make eth_getLogs requests with up to a 10,000 block range and no limit on the response size, or you can request any block range with a cap of 10K logs in the response. Based on your parameters and the response size limit, this block range should work: [0xc5dc00, 0xc5dcff]",
            Some(Some(256)),
        );
        check(
            -32600,
            "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range. Based on your parameters, this block range should work: [0x1180fca, 0x1180fd3]. Upgrade to PAYG for expanded block range.",
            Some(Some(10)),
        );
        check(
            -32000,
            "Query timeout exceeded. Consider reducing your block range. Based on your parameters and the response size limit, this block range should work: [0x5223c98, 0x5223e80]",
            Some(Some(489)),
        );
        check(
            -32005,
            "query returned more than 10000 results. Try with this block range [0x8CC7A9, 0x8CC8AB].",
            Some(Some(259)),
        );
        check(
            -32602,
            "query exceeds max results 20000, retry with the range 24383075-24383096",
            Some(Some(22)),
        );
    }

    #[test]
    fn limits_that_a_provider_states_are_taken() {
        for (code, message, blocks) in [
            (-32614, "eth_getLogs is limited to a 10,000 range", 10_000),
            (-32614, "eth_getLogs is limited to a 5 range, upgrade from free tier", 5),
            (-32602, "eth_getLogs is limited to 1024 block. Please check the parameter", 1024),
            (-32602, "eth_getLogs is limited to 0 - 50 blocks range", 50),
            (-32701, "exceed maximum block range: 5000", 5000),
            (-32602, "query exceeds max block range 10000", 10_000),
            (-32602, "range 1000000 exceeds limit of 10000", 10_000),
            (35, "ranges over 10000 blocks are not supported on freetier", 10_000),
            (-32000, "too wide blocks range, the limit is 100", 100),
            (-32000, "requested too many blocks from 0 to 16777216, maximum is set to 2048", 2048),
            (
                -32000,
                "block range is larger than max block range, block range = 5120, max block range = 5000",
                5000,
            ),
            (
                -32005,
                "Log response size exceeded. Maximum allowed number of requested blocks is 1000",
                1000,
            ),
            (
                -32602,
                "requested block range exceeds limit, please specify a block range less than 1000",
                1000,
            ),
            (-32000, "Max range: 800", 800),
        ] {
            check(code, message, Some(Some(blocks)));
        }
    }

    #[test]
    fn refusals_without_a_number_of_blocks_suggest_nothing() {
        for (code, message) in [
            (-32005, "query returned more than 10000 results"),
            (-32000, "logs matched by query exceeds limit of 10000"),
            (-32600, "block range is too wide"),
            (-32600, "block range too high"),
            (-32062, "Block range is too large"),
            (-32602, "Block range limit exceeded. See more details at the docs"),
            (-32000, "block range is bigger than maxBlockRange"),
            (-32005, "Requested range exceeds maximum range limit"),
            (-32012, "requested range too large"),
            (-32020, "backend response too large"),
            (-32008, "Response is too big"),
            (-32000, "Response size is larger than 150MB limit."),
            (-32602, "query exceeds max results 20000"),
            (-32000, "ranges over 50000 blocks are not supported on freetier"),
        ] {
            check(code, message, Some(None));
        }
    }

    #[test]
    fn other_errors_are_no_refusals() {
        for (code, message) in [
            (-32005, "limit exceeded"),
            (-32005, "daily request count exceeded, request rate limited"),
            (429, "Your app has exceeded its compute units per second capacity"),
            (-32602, "block range extends beyond current head block"),
            (-32602, "invalid block range params"),
            (-32000, "header not found"),
            (-32603, "Internal error"),
            (-32000, "request timed out"),
        ] {
            check(code, message, None);
        }
    }
}
