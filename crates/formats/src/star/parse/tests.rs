//! Tables of text and what it means, or why it is refused.

use std::path::Path;

use super::*;

fn document(text: &str) -> Document {
    parse(text.as_bytes(), Path::new("a.star")).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn rows(block: &Block) -> Vec<Vec<String>> {
    let table = block.table().unwrap();
    (0..table.row_count())
        .map(|row| table.row(row).map(str::to_owned).collect())
        .collect()
}

#[test]
fn blocks_loops_and_single_values() {
    let text = "# version 30001\n\ndata_general\n\n_rlnA 1 # note\n_rlnB 'two words'\n\n\
                data_particles # note\n\nloop_ \n_x #1 \n_y #2 \n 1 2 \n\t3\t4 # note\n\n\ndata_\nloop_\n_z\n";
    for text in [
        text.to_owned(),
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}"),
    ] {
        let document = document(&text);
        let names: Vec<_> = document
            .blocks
            .iter()
            .map(|block| block.name.as_str())
            .collect();
        assert_eq!(names, ["general", "particles", ""]);
        assert_eq!(document.blocks[0].value("rlnB"), Some("two words"));
        assert_eq!(rows(&document.blocks[1]), [["1", "2"], ["3", "4"]]);
        assert_eq!(document.blocks[1].table().unwrap().line(1), Some(14));
        assert_eq!(document.blocks[2].table().unwrap().row_count(), 0);
    }
}

#[test]
fn quotations_and_text_fields() {
    let text =
        "data_a\nloop_\n_x\n_y\n'it's' 'a \"b\" c'\n'' a#b\n1\n;two\nlines\n;\n;first\n; last\n3 4";
    assert_eq!(
        rows(&document(text).blocks[0]),
        [
            ["it's", "a \"b\" c"],
            ["", "a#b"],
            ["1", "two\nlines"],
            ["first", "last"],
            ["3", "4"]
        ]
    );
}

#[test]
fn a_file_name_may_look_like_a_block() {
    let text = "data_a\nloop_\n_x\n_y\ndata_01.mrc 1\ndata_02.mrc 2\n";
    assert_eq!(
        rows(&document(text).blocks[0]),
        [["data_01.mrc", "1"], ["data_02.mrc", "2"]]
    );
}

#[test]
fn single_values_serve_as_a_table_of_one_row() {
    let document = document("data_optics\n_rlnOpticsGroup 1\n_rlnVoltage 300\n");
    assert_eq!(rows(&document.blocks[0]), [["1", "300"]]);
}

#[test]
fn broken_text_is_refused_by_line() {
    let cases = [
        (
            "",
            "a.star: the file is empty; expected a STAR file with a data_ block",
        ),
        (
            "# only a comment\n\n",
            "a.star: the file is empty; expected a STAR file with a data_ block",
        ),
        (
            "hello\n",
            "a.star:1: expected a data_ block before \"hello\"",
        ),
        (
            "data_a\nhello\n",
            "a.star:2: value \"hello\" belongs to no label or loop",
        ),
        (
            "data_a\n_x 1 2\n",
            "a.star:2: value \"2\" belongs to no label or loop",
        ),
        ("data_a\n_x\n_y 1\n", "a.star:2: label _x has no value"),
        ("data_a\n_x 1\n_x 2\n", "a.star:3: label _x appears twice"),
        (
            "data_a\nloop_\n_x\n_x\n",
            "a.star:4: label _x appears twice",
        ),
        ("data_a\nloop_\n1 2\n", "a.star:3: a loop_ has no columns"),
        ("data_a\nloop_\n", "a.star:2: a loop_ has no columns"),
        (
            "data_a\nloop_\n_x\n_y\n1 2\n1 2 3\n",
            "a.star:6: the row has 3 values; expected 2, one a column",
        ),
        (
            "data_a\nloop_\n_x\n_y\n1 2\n1",
            "a.star:6: the row has 1 values; expected 2, one a column",
        ),
        (
            "data_a\nloop_\n_x\n_y\n1\n1 2\n",
            "a.star:5: the row has 1 values; expected 2, one a column",
        ),
        (
            "data_a\n_x 'open\n",
            "a.star:2: a quotation mark has no partner on its line",
        ),
        (
            "data_a\n_x\n;open\n",
            "a.star:3: a text field (a line that begins with ;) has no end",
        ),
        (
            "data_a\n_x a\0b\n",
            "a.star:2: not a text file (expected UTF-8)",
        ),
    ];
    for (text, expected) in cases {
        let error = parse(text.as_bytes(), Path::new("a.star")).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text:?}");
    }
    let error = parse(b"data_a\n\xff\n", Path::new("a.star")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a.star:2: not a text file (expected UTF-8)"
    );
}
