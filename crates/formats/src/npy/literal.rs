//! The few Python literals that NumPy writes into a header.

/// How deep lists may be nested: the deepest of NumPy's is a shape within a field within a list within the whole.
const DEPTH_MAX: usize = 8;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Text(String),
    Integer(usize),
    /// True, False, None.
    Word(String),
    /// A list or a tuple.
    List(Vec<Literal>),
    Dictionary(Vec<(Literal, Literal)>),
}

impl Literal {
    /// Reads one value that is the whole text but for blanks.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut rest = Rest(text);
        let value = rest.value(DEPTH_MAX)?;
        rest.0.trim().is_empty().then_some(value)
    }

    /// What a list or tuple holds.
    pub(super) fn items(&self) -> Option<&[Literal]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// What a dictionary has under a name.
    pub(super) fn entry(&self, name: &str) -> Option<&Literal> {
        let Self::Dictionary(entries) = self else {
            return None;
        };
        let named = |key: &Literal| matches!(key, Self::Text(text) if text == name);
        entries
            .iter()
            .find_map(|(key, value)| named(key).then_some(value))
    }
}

/// What is not read yet.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn value(&mut self, depth: usize) -> Option<Literal> {
        let depth = depth.checked_sub(1)?;
        self.0 = self.0.trim_start();
        let first = self.0.chars().next()?;
        match first {
            '\'' | '"' => {
                let text = &self.0[1..];
                let end = text.find(first)?;
                // No column of cryoSPARC's needs an escape.
                let text_itself = (!text[..end].contains('\\')).then(|| text[..end].to_owned())?;
                self.0 = &text[end + 1..];
                Some(Literal::Text(text_itself))
            }
            '(' => self.list(')', depth).map(Literal::List),
            '[' => self.list(']', depth).map(Literal::List),
            '{' => self.dictionary(depth),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Option<Literal> {
        let is_end = |c: char| !c.is_ascii_alphanumeric();
        let (word, rest) = self.0.split_at(self.0.find(is_end).unwrap_or(self.0.len()));
        self.0 = rest;
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return word.parse().ok().map(Literal::Integer);
        }
        (!word.is_empty()).then(|| Literal::Word(word.to_owned()))
    }

    fn list(&mut self, close: char, depth: usize) -> Option<Vec<Literal>> {
        self.0 = &self.0[1..];
        let mut items = Vec::new();
        while !self.takes(close) {
            items.push(self.value(depth)?);
            if !self.takes(',') && !self.0.trim_start().starts_with(close) {
                return None;
            }
        }
        Some(items)
    }

    fn dictionary(&mut self, depth: usize) -> Option<Literal> {
        self.0 = &self.0[1..];
        let mut entries = Vec::new();
        while !self.takes('}') {
            let key = self.value(depth)?;
            if !self.takes(':') {
                return None;
            }
            entries.push((key, self.value(depth)?));
            if !self.takes(',') && !self.0.trim_start().starts_with('}') {
                return None;
            }
        }
        Some(Literal::Dictionary(entries))
    }

    fn takes(&mut self, expected: char) -> bool {
        let rest = self.0.trim_start().strip_prefix(expected);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_numpy_writes_is_read_and_nothing_panics() {
        let read = Literal::parse("{'a': [('b/c', '<f4', (2,)), (\"d\", 'S3')], 'e': False, }  \n")
            .unwrap();
        let items = read.entry("a").and_then(Literal::items).unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(
            items[0].items().unwrap()[2],
            Literal::List(vec![Literal::Integer(2)])
        );
        assert_eq!(read.entry("e"), Some(&Literal::Word("False".to_owned())));
        let deep = "[".repeat(100);
        let bad = [
            "",
            "{",
            "{'a'",
            "{'a':",
            "{'a': }",
            "('a' 'b')",
            "'a",
            "{}x",
            "[1,,2]",
            "-1",
            "99999999999999999999",
            "'\\n'",
            &deep,
        ];
        for text in bad {
            assert_eq!(Literal::parse(text), None, "{text}");
        }
    }
}
