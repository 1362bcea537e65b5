//! The book's own threads: every page is in its list, and every link leads somewhere.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn pages(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => pages(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

/// Where a page's links lead, those to other places of the network left out.
fn links(text: &str) -> Vec<String> {
    let mut is_inside_fence = false;
    let prose = text.lines().filter(|line| {
        is_inside_fence ^= line.trim_start().starts_with("```");
        !is_inside_fence
    });
    prose
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| Some(rest.split_once(')')?.0.to_owned()))
        .filter(|link| !link.contains("://"))
        .collect()
}

/// The names that headings have in links.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

/// What is wrong with a link of a page, if anything.
fn fault(page: &Path, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path {
        "" => page.to_owned(),
        path => page.parent()?.join(path),
    };
    if !target.exists() {
        return Some(format!("{}: {link} leads nowhere", page.display()));
    }
    let is_there =
        anchor.is_empty() || anchors(&fs::read_to_string(&target).ok()?).contains(anchor);
    (!is_there).then(|| format!("{}: {link} names no heading", page.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let mut all = pages(&root().join("docs"));
    all.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name)));
    let faults: Vec<String> = all
        .iter()
        .flat_map(|page| {
            let found = links(&fs::read_to_string(page).unwrap());
            found
                .into_iter()
                .filter_map(|link| fault(page, &link))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_page_is_in_the_list() {
    let book = root().join("docs");
    let summary = fs::read_to_string(book.join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<PathBuf> = links(&summary).iter().map(|link| book.join(link)).collect();
    for page in pages(&book) {
        assert!(
            page.ends_with("SUMMARY.md") || listed.contains(&page),
            "{} is not in SUMMARY.md",
            page.display()
        );
    }
}

/// All sources of the crates, with texts that were broken over lines put together again.
fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let texts = paths.map(|path| match path.is_dir() {
        true => sources(&path),
        false => fs::read_to_string(&path).unwrap_or_default(),
    });
    let text: String = texts.collect();
    let parts = text.split("\\\n");
    parts.map(str::trim_start).collect()
}

/// The fixed parts of the messages in the page of errors: what stands between the marks of what varies.
fn messages(page: &str) -> Vec<Vec<&str>> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let messages = rows
        .map(|row| row.split(" | ").next().unwrap_or_default())
        .filter(|message| *message != "message");
    messages
        .map(|message| {
            let parts = message
                .split('‹')
                .map(|part| part.split_once('›').map_or(part, |(_, rest)| rest));
            parts.map(str::trim).filter(|part| part.len() > 3).collect()
        })
        .collect()
}

#[test]
fn every_message_in_the_page_of_errors_is_one_of_the_programs() {
    let page = fs::read_to_string(root().join("docs/errors.md")).unwrap();
    let sources = sources(&root().join("crates"));
    let messages = messages(&page);
    assert!(messages.len() > 40, "only {} messages", messages.len());
    for message in messages {
        for part in message {
            assert!(sources.contains(part), "no program says {part:?}");
        }
    }
}

#[test]
fn a_broken_link_is_noticed() {
    let page = root().join("docs/concepts.md");
    assert!(fault(&page, "nowhere.md").is_some());
    assert!(fault(&page, "errors.md#no-such-heading").is_some());
    assert_eq!(fault(&page, "errors.md#a-worker-that-does-not-join"), None);
    assert_eq!(
        links("[a](b.md)\n```\n[c](d.md)\n```\n[e](https://f)"),
        ["b.md"]
    );
}
