//! Lines of comma-separated values (RFC 4180) that no spreadsheet takes for formulas.
//!
//! Only strings that someone wrote on a chain can begin a formula, and only they are marked: with
//! the apostrophe that OWASP advises against CSV injection. Numbers, hex and JSON are as they are.

use lookout_abi::Value;

/// First characters that spreadsheets take for the beginning of a formula, full-width ones included.
const FORMULA_STARTS: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// Lines as they are put together.
#[derive(Debug)]
pub(crate) struct Lines {
    text: String,
    /// Whether the next cell begins a line.
    fresh: bool,
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self { text: String::new(), fresh: true }
    }

    /// Adds a cell whose text is known to begin no formula.
    pub(crate) fn cell(&mut self, text: &str) {
        if !self.fresh {
            self.text.push(',');
        }
        self.fresh = false;
        if text.contains(['"', ',', '\r', '\n']) {
            self.text.push('"');
            self.text.push_str(&text.replace('"', "\"\""));
            self.text.push('"');
        } else {
            self.text.push_str(text);
        }
    }

    /// Adds a cell with text from a chain.
    pub(crate) fn foreign(&mut self, text: &str) {
        if text.starts_with(FORMULA_STARTS) {
            self.cell(&format!("'{text}"));
        } else {
            self.cell(text);
        }
    }

    /// Adds a decoded value: text as it is, numbers in decimal, the rest as JSON.
    pub(crate) fn value(&mut self, value: &Value, json: &serde_json::Value) {
        match (value, json) {
            (Value::String(_), serde_json::Value::String(text)) => self.foreign(text),
            (_, serde_json::Value::String(text)) => self.cell(text),
            (_, json) => self.cell(&json.to_string()),
        }
    }

    /// Ends the line.
    pub(crate) fn end(&mut self) {
        self.text.push_str("\r\n");
        self.fresh = true;
    }

    /// The lines so far, which it forgets.
    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

#[cfg(test)]
mod tests {
    use lookout_abi::{AbiText, I256};

    use super::*;

    #[test]
    fn cells_are_quoted_and_formulas_marked() {
        let mut lines = Lines::new();
        for text in
            ["plain", "a,b", "say \"x\"", "two\nlines", "", "=1+1", "-2", "@x", "＝1", "a=b"]
        {
            lines.foreign(text);
        }
        lines.end();
        lines.cell("-5");
        lines.end();
        assert_eq!(
            lines.take(),
            "plain,\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",,'=1+1,'-2,'@x,'＝1,a=b\r\n-5\r\n"
        );
        assert_eq!(lines.take(), "");
    }

    #[test]
    fn numbers_keep_their_sign_and_text_does_not_begin_with_one() {
        let mut lines = Lines::new();
        for value in [
            Value::Int(I256::from(-5)),
            Value::String(AbiText::from("-5")),
            Value::String(AbiText(vec![b'=', 0xff].into())),
            Value::Array(vec![Value::Bool(true), Value::String(AbiText::from("=x"))]),
            Value::Bool(false),
        ] {
            lines.value(&value, &value.to_plain_json());
        }
        lines.end();
        let expected =
            "-5,'-5,\"{\"\"invalidUtf8\"\":\"\"0x3dff\"\"}\",\"[true,\"\"=x\"\"]\",false\r\n";
        assert_eq!(lines.take(), expected);
    }
}
