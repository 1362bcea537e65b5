//! A picture: what is drawn, what it says to who cannot see it, and the numbers behind it.

use crate::chart;

/// A picture could not be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the picture {name} cannot be drawn: {problem}")]
pub struct Broken {
    /// Its name.
    pub name: &'static str,
    /// What stopped it.
    pub problem: String,
}

/// A picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Of its file, without the ending.
    pub name: &'static str,
    /// What it is.
    pub title: String,
    /// How to read it.
    pub caption: String,
    /// What it shows, in words.
    pub alt: String,
    /// The drawing.
    pub content: Content,
    /// The numbers behind it, where they are few enough to read.
    pub table: Option<Table>,
}

/// A drawing.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A chart: an SVG element without styles, which the page and the file each add.
    Svg(String),
    /// Grey values.
    Png(Vec<u8>),
}

/// Numbers behind a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Of the columns.
    pub head: Vec<String>,
    /// As they are shown.
    pub rows: Vec<Vec<String>>,
}

impl Picture {
    /// Under which it lies in its folder.
    pub fn file_name(&self) -> String {
        let ending = match self.content {
            Content::Svg(_) => "svg",
            Content::Png(_) => "png",
        };
        format!("{}.{ending}", self.name)
    }

    /// As a file that stands alone.
    pub fn file_bytes(&self) -> Vec<u8> {
        match &self.content {
            Content::Svg(svg) => chart::standalone(svg, &self.alt).into_bytes(),
            Content::Png(png) => png.clone(),
        }
    }
}

impl Table {
    /// A table with these columns.
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self {
            head: head.map(str::to_owned).to_vec(),
            rows: Vec::new(),
        }
    }

    /// The next row.
    pub fn row<const N: usize>(&mut self, row: [String; N]) {
        debug_assert_eq!(N, self.head.len(), "columns");
        self.rows.push(row.to_vec());
    }
}
