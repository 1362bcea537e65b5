//! Text to document, line by line.
//!
//! STAR allows a row of a loop to spread over lines; RELION neither writes nor reads that, and
//! insisting on a row a line turns a missing value into a message instead of shifted columns.
//! Only a text field, which is made of lines, continues a row.

use std::path::Path;

use super::{Block, Document, Entry, StarError, SyntaxProblem, Table};

/// Takes a file's bytes apart.
pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Document, StarError> {
    let fail = |(line, problem)| StarError::Syntax {
        path: path.to_owned(),
        line,
        problem,
    };
    let text = text(bytes).map_err(fail)?;
    let mut parser = Parser::default();
    let mut lines = text.lines().zip(1_u32..);
    while let Some((line, number)) = lines.next() {
        let field = match line.strip_prefix(';') {
            Some(first) => Some(text_field(first, number, &mut lines).map_err(fail)?),
            None => None,
        };
        let content = field.as_ref().map_or(line, |(_, rest)| rest);
        let value = field.as_ref().map(|(value, _)| value.as_str());
        parser.line(value, content, number).map_err(fail)?;
    }
    parser.finish().map_err(fail)?;
    if parser.blocks.is_empty() {
        return Err(StarError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(Document {
        blocks: parser.blocks,
    })
}

type At = (u32, SyntaxProblem);

fn text(bytes: &[u8]) -> Result<&str, At> {
    if u32::try_from(bytes.len()).is_err() {
        return Err((1, SyntaxProblem::TooLong));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let bad = match std::str::from_utf8(bytes) {
        Ok(text) => match text.find('\0') {
            None => return Ok(text),
            Some(position) => position,
        },
        Err(error) => error.valid_up_to(),
    };
    let line = 1 + bytes[..bad].iter().filter(|byte| **byte == b'\n').count();
    Err((line as u32, SyntaxProblem::NotText))
}

/// The value between a line that begins with `;` and the next one, and what follows on that line.
fn text_field<'a>(
    first: &'a str,
    number: u32,
    lines: &mut impl Iterator<Item = (&'a str, u32)>,
) -> Result<(String, &'a str), At> {
    let mut value = first.to_owned();
    for (line, _) in lines {
        if let Some(rest) = line.strip_prefix(';') {
            return Ok((value, rest));
        }
        value.push('\n');
        value.push_str(line);
    }
    Err((number, SyntaxProblem::OpenText))
}

#[derive(Default)]
struct Parser {
    blocks: Vec<Block>,
    state: State,
}

/// What the next line may belong to.
#[derive(Default)]
enum State {
    #[default]
    Entries,
    /// A label whose value must follow, on this line or as a text field.
    Label { label: String, line: u32 },
    /// A loop: its columns, then its rows.
    Loop {
        table: Table,
        line: u32,
        row_line: u32,
        after_text: bool,
    },
}

impl Parser {
    /// Takes in one line: the text field that ends on it, if one does, and its further content.
    fn line(&mut self, field: Option<&str>, content: &str, number: u32) -> Result<(), At> {
        let at = |problem| (number, problem);
        if field.is_none() && !content.trim_start().starts_with('#') && !content.trim().is_empty() {
            self.check_row_is_whole()?;
        }
        if let Some(value) = field {
            self.value(value, number).map_err(at)?;
        }
        let mut is_first = field.is_none();
        let mut rest = content;
        while let Some((token, remaining)) = next_token(rest).map_err(at)? {
            rest = remaining;
            self.token(token, is_first, rest, number)?;
            is_first = false;
        }
        if let State::Loop { after_text, .. } = &mut self.state {
            *after_text = field.is_some();
        }
        self.end_line().map_err(at)
    }

    fn token(
        &mut self,
        token: Token<'_>,
        is_first: bool,
        rest: &str,
        number: u32,
    ) -> Result<(), At> {
        let at = |problem| (number, problem);
        let Token::Bare(word) = token else {
            return self.value(token.text(), number).map_err(at);
        };
        if is_first && is_keyword(word, "loop_") {
            self.close_entry()?;
            self.require_block(word).map_err(at)?;
            self.state = State::Loop {
                table: Table::default(),
                line: number,
                row_line: 0,
                after_text: false,
            };
            return Ok(());
        }
        // A file name such as data_01.mrc may well begin a row; a block's name stands alone.
        if is_first
            && let Some(name) = block_name(word)
            && is_blank(rest)
        {
            self.close_entry()?;
            self.blocks.push(Block {
                name: name.to_owned(),
                entries: Vec::new(),
            });
            return Ok(());
        }
        match (word.strip_prefix('_'), &mut self.state) {
            (Some(label), State::Loop { table, .. })
                if table.row_count() == 0 && table.unfinished_len() == 0 =>
            {
                if !label.is_empty() && table.add_label(label.to_owned()) {
                    return Ok(());
                }
                Err(at(SyntaxProblem::RepeatedLabel {
                    label: label.to_owned(),
                }))
            }
            (Some(label), _) if is_first && !label.is_empty() => {
                self.close_entry()?;
                self.require_block(word).map_err(at)?;
                self.state = State::Label {
                    label: label.to_owned(),
                    line: number,
                };
                Ok(())
            }
            _ => self.value(word, number).map_err(at),
        }
    }

    fn value(&mut self, value: &str, number: u32) -> Result<(), SyntaxProblem> {
        self.require_block(value)?;
        match &mut self.state {
            State::Entries => Err(SyntaxProblem::StrayValue {
                found: shortened(value),
            }),
            State::Label { label, line } => {
                let (label, line) = (std::mem::take(label), *line);
                self.state = State::Entries;
                self.add_single(label, value.to_owned(), line)
            }
            State::Loop {
                table, row_line, ..
            } => {
                if table.labels().is_empty() {
                    return Err(SyntaxProblem::NoColumns);
                }
                if table.unfinished_len() == 0 {
                    *row_line = number;
                }
                if table.push_value(value) {
                    Ok(())
                } else {
                    Err(SyntaxProblem::TooLong)
                }
            }
        }
    }

    fn add_single(&mut self, label: String, value: String, line: u32) -> Result<(), SyntaxProblem> {
        let Some(block) = self.blocks.last_mut() else {
            return Err(SyntaxProblem::OutsideBlock {
                found: shortened(&label),
            });
        };
        if block.value(&label).is_some() {
            return Err(SyntaxProblem::RepeatedLabel { label });
        }
        block.entries.push(Entry::Single { label, value, line });
        Ok(())
    }

    /// At the end of a line a row is complete, or waits for a text field.
    fn end_line(&mut self) -> Result<(), SyntaxProblem> {
        let State::Loop {
            table, row_line, ..
        } = &mut self.state
        else {
            return Ok(());
        };
        let (found, expected) = (table.unfinished_len(), table.labels().len());
        if found > expected {
            return Err(SyntaxProblem::RowLength { found, expected });
        }
        if found == expected && found > 0 {
            table.end_row(*row_line);
        }
        Ok(())
    }

    /// A line that is no text field begins a new row, unless a text field just ended.
    fn check_row_is_whole(&self) -> Result<(), At> {
        match &self.state {
            State::Loop {
                table,
                row_line,
                after_text: false,
                ..
            } if table.unfinished_len() > 0 => {
                let (found, expected) = (table.unfinished_len(), table.labels().len());
                Err((*row_line, SyntaxProblem::RowLength { found, expected }))
            }
            _ => Ok(()),
        }
    }

    fn require_block(&self, found: &str) -> Result<(), SyntaxProblem> {
        if self.blocks.is_empty() {
            return Err(SyntaxProblem::OutsideBlock {
                found: shortened(found),
            });
        }
        Ok(())
    }

    fn close_entry(&mut self) -> Result<(), At> {
        match std::mem::take(&mut self.state) {
            State::Entries => Ok(()),
            State::Label { label, line } => Err((line, SyntaxProblem::NoValue { label })),
            State::Loop { table, line, .. } if table.labels().is_empty() => {
                Err((line, SyntaxProblem::NoColumns))
            }
            State::Loop {
                table, row_line, ..
            } => {
                let (found, expected) = (table.unfinished_len(), table.labels().len());
                if found > 0 {
                    return Err((row_line, SyntaxProblem::RowLength { found, expected }));
                }
                if let Some(block) = self.blocks.last_mut() {
                    block.entries.push(Entry::Loop(table));
                }
                Ok(())
            }
        }
    }

    fn finish(&mut self) -> Result<(), At> {
        self.close_entry()
    }
}

enum Token<'a> {
    Bare(&'a str),
    Quoted(&'a str),
}

impl<'a> Token<'a> {
    fn text(&self) -> &'a str {
        match self {
            Token::Bare(text) | Token::Quoted(text) => text,
        }
    }
}

/// The next token of a line and the rest of the line; nothing at its end or at a comment.
fn next_token(line: &str) -> Result<Option<(Token<'_>, &str)>, SyntaxProblem> {
    let line = line.trim_start();
    match line.chars().next() {
        None | Some('#') => Ok(None),
        Some(quote @ ('\'' | '"')) => {
            let inner = &line[1..];
            // A quotation ends only where a blank follows, so that 'it's' is one value.
            let end = inner
                .match_indices(quote)
                .map(|(end, _)| end)
                .find(|end| {
                    inner[end + 1..]
                        .chars()
                        .next()
                        .is_none_or(char::is_whitespace)
                })
                .ok_or(SyntaxProblem::OpenQuote)?;
            Ok(Some((Token::Quoted(&inner[..end]), &inner[end + 1..])))
        }
        Some(_) => {
            let end = line.find(char::is_whitespace).unwrap_or(line.len());
            Ok(Some((Token::Bare(&line[..end]), &line[end..])))
        }
    }
}

fn is_keyword(word: &str, keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword)
}

fn block_name(word: &str) -> Option<&str> {
    let (keyword, name) = word.split_at_checked("data_".len())?;
    is_keyword(keyword, "data_").then_some(name)
}

fn is_blank(rest: &str) -> bool {
    let rest = rest.trim_start();
    rest.is_empty() || rest.starts_with('#')
}

/// Enough of a value to find it by; a binary file's first "word" can be megabytes.
fn shortened(value: &str) -> String {
    value.chars().take(40).collect()
}

#[cfg(test)]
mod tests;
